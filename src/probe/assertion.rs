//! Stub.
#![allow(missing_docs, clippy::all, clippy::pedantic)]
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Assertion { pub field: String, pub json_path: Option<String>, pub operator: Operator, pub value: Option<Value> }
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Operator { Equals }
impl Operator { pub fn parse(t: &str) -> Option<Self> { (t == "equals").then_some(Self::Equals) } pub fn as_str(self) -> &'static str { "equals" } }
pub struct Ready(Assertion);
pub struct Wrong { pub key: &'static str, pub message: String }
#[derive(Clone, Debug)]
pub struct Judged { pub passed: bool, pub actual: Option<Value>, pub message: Option<String> }
impl Assertion {
    pub fn prepare(&self, _s: &Value) -> Result<Ready, Wrong> { Ok(Ready(self.clone())) }
    pub fn shown(&self) -> Value { json!({"field": self.field}) }
    pub fn explained(&self, _j: &Judged) -> String { String::new() }
}
impl Ready { pub fn judge(&self, f: &Map<String, Value>) -> Judged { let a = f.get(&self.0.field).cloned(); Judged { passed: a == self.0.value, actual: a, message: None } } }
