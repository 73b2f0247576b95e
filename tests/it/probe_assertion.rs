//! Assertions: what is refused when they are saved, and what they say of findings.

use checkmate::probe::assertion::{Assertion, Judged, judge};
use checkmate::probe::operator::Operator;
use serde_json::{Map, Value, json};
use std::time::Instant;

fn schema() -> Value {
    json!({ "properties": {
        "statusCode": { "type": "integer" },
        "body": { "type": "string", "x-ephemeral": true },
        "values": { "type": "array" },
        "headers": { "type": "object" },
    } })
}

fn judged(assertion: &Value, findings: &Value) -> Judged {
    let assertion: Assertion = serde_json::from_value(assertion.clone()).unwrap();
    let ready = assertion.prepare(&schema()).unwrap();
    ready.judge(findings.as_object().unwrap())
}

/// Whether it holds of a value, which is `null` for what was not found.
fn holds(actual: &Value, operator: &str, value: &Value) -> bool {
    let mut assertion = json!({ "field": "values", "operator": operator });
    if !value.is_null() {
        assertion["value"] = value.clone();
    }
    let findings = if actual.is_null() { json!({}) } else { json!({ "values": actual }) };
    let plain = judged(&assertion, &findings);
    assert_eq!(plain.passed, plain.message.is_none(), "{plain:?}");
    // It is the same where a path leads to the value.
    let document = json!({ "a": actual }).to_string();
    let through = json!({ "field": "body", "jsonPath": "$.a", "operator": operator, "value": value });
    assert_eq!(judged(&through, &json!({ "body": document })).passed, plain.passed, "{through} of {document}");
    plain.passed
}

#[test]
fn an_operator_means_what_clients_know() {
    let none = Value::Null;
    for (actual, operator, value, expected) in [
        (json!(0), "exists", none.clone(), true),
        (none.clone(), "exists", none.clone(), false),
        (none.clone(), "notExists", none.clone(), true),
        (json!(false), "notExists", none.clone(), false),
        (json!(true), "isTrue", none.clone(), true),
        (json!("true"), "isTrue", none.clone(), false),
        (json!(1), "isTrue", none.clone(), false),
        (json!(false), "isFalse", none.clone(), true),
        (none.clone(), "isFalse", none.clone(), false),
        (json!(["a", 1]), "includes", json!("1"), true),
        (json!(["ab"]), "includes", json!("a"), false),
        (json!("ab"), "includes", json!("a"), false),
        (json!(["a"]), "notIncludes", json!("b"), true),
        (json!("a"), "notIncludes", json!("b"), false),
        (json!([1, 2]), "lengthEquals", json!(2), true),
        (json!([1, 2]), "lengthEquals", json!("2"), true),
        (json!("ab"), "lengthEquals", json!(2), false),
        (json!([1, 2]), "lengthGreaterThan", json!(1), true),
        (json!([1, 2]), "lengthGreaterThan", json!(2), false),
        (json!([1, 2]), "lengthLessThan", json!(3), true),
        (json!([]), "isEmpty", none.clone(), true),
        (json!(" \t\n"), "isEmpty", none.clone(), true),
        (json!(0), "isEmpty", none.clone(), true),
        (none.clone(), "isEmpty", none.clone(), true),
        (json!([0]), "isEmpty", none.clone(), false),
        (json!(" a "), "isNotEmpty", none.clone(), true),
        (json!({}), "isNotEmpty", none.clone(), false),
        (json!(1), "lessThan", json!(2), true),
        (json!("1"), "lessThan", json!(1.5), true),
        (json!(10), "lessThan", json!("9"), false),
        (json!("NaN"), "lessThan", json!(1), false),
        (json!("inf"), "greaterThan", json!(1), false),
        (none.clone(), "lessThan", json!(1), false),
        (json!(true), "lessThanOrEqual", json!(1), false),
        (json!(2.0), "lessThanOrEqual", json!(2), true),
        (json!(9_007_199_254_740_993_u64), "greaterThan", json!(9_007_199_254_740_992_u64), true),
        (json!(2), "greaterThanOrEqual", json!("2"), true),
        (json!(200), "equals", json!("200"), true),
        (json!("200"), "equals", json!(200.0), true),
        (json!("200"), "equals", json!("200.0"), false),
        (json!(true), "equals", json!("true"), true),
        (json!({ "a": [1, { "b": null }] }), "equals", json!({ "a": [1.0, { "b": null }] }), true),
        (json!({ "a": 1 }), "equals", json!({ "a": "1" }), false),
        (json!({ "a": 1 }), "equals", json!(r#"{"a":1}"#), true),
        (none.clone(), "equals", json!(""), true),
        (none.clone(), "notEquals", json!("x"), true),
        (json!("x"), "notEquals", json!("x"), false),
        (json!("abc"), "contains", json!("b"), true),
        (json!(1234), "contains", json!(23), true),
        (json!("abc"), "notContains", json!("b"), false),
        (json!("abc"), "startsWith", json!("ab"), true),
        (json!("abc"), "startsWith", json!("b"), false),
        (json!("abc"), "endsWith", json!("bc"), true),
        (json!("abc"), "matches", json!("^a.c$"), true),
        (json!(500), "matches", json!("^5"), true),
        (none.clone(), "matches", json!("x"), false),
    ] {
        assert_eq!(holds(&actual, operator, &value), expected, "{actual} {operator} {value}");
    }
}

#[test]
fn what_cannot_be_judged_is_refused_with_its_key() {
    for (assertion, expected) in [
        (json!({ "field": "latency", "operator": "exists" }), "field: Is not a field of the result: body, headers, "),
        (json!({ "field": "body", "jsonPath": "$.a[", "operator": "exists" }), "jsonPath: Is not a JSONPath"),
        (json!({ "field": "body", "jsonPath": "a", "operator": "exists" }), "jsonPath: Is not a JSONPath"),
        (json!({ "field": "body", "operator": "equals" }), "value: equals compares with a value"),
        (json!({ "field": "body", "operator": "exists", "value": 1 }), "value: exists compares with nothing"),
        (json!({ "field": "body", "operator": "lessThan", "value": "x" }), "value: lessThan compares with a number"),
        (json!({ "field": "body", "operator": "lessThan", "value": [1] }), "value: lessThan compares with a number"),
        (
            json!({ "field": "body", "operator": "lengthEquals", "value": -1 }),
            "value: lengthEquals compares with a whole",
        ),
        (json!({ "field": "body", "operator": "contains", "value": {} }), "value: contains compares with a text"),
        (json!({ "field": "body", "operator": "matches", "value": 5 }), "value: matches compares with a regular"),
        (
            json!({ "field": "body", "operator": "matches", "value": "(" }),
            "value: Is not a regular expression: unclosed",
        ),
        (json!({ "field": "body", "operator": "matches", "value": r"\w{500}" }), "value: Is a regular expression that"),
        (json!({ "field": "body", "operator": "matches", "value": "a".repeat(1_001) }), "value: Must not be longer"),
        (json!({ "field": "body", "operator": "equals", "value": "a".repeat(20_000) }), "value: Must not be longer"),
    ] {
        let read: Assertion = serde_json::from_value(assertion.clone()).unwrap();
        let faults = read.prepare(&schema()).unwrap_err();
        let [fault] = faults.as_slice() else { panic!("{assertion}: {faults:?}") };
        let found = format!("{}: {}", fault.path, fault.message);
        assert!(found.starts_with(expected), "{assertion}: {found}");
    }
    let all = json!({ "field": "x", "jsonPath": "x", "operator": "equals" });
    let faults = serde_json::from_value::<Assertion>(all).unwrap().prepare(&schema()).unwrap_err();
    assert_eq!(faults.iter().map(|fault| fault.path.as_str()).collect::<Vec<_>>(), ["field", "jsonPath", "value"]);
    for unread in [
        json!({ "field": "body", "operator": "like" }),
        json!({ "field": "body", "operator": "exists", "path": "$" }),
        json!({ "operator": "exists" }),
    ] {
        assert!(serde_json::from_value::<Assertion>(unread.clone()).is_err(), "{unread}");
    }
}

#[test]
fn several_nodes_hold_only_together() {
    let findings = json!({ "body": r#"{"parts": [{"up": true, "ms": 5}, {"up": true, "ms": 50}, {"up": null}]}"# });
    for (path, operator, value, expected) in [
        ("$.parts[:2].up", "isTrue", Value::Null, true),
        ("$.parts[*].up", "isTrue", Value::Null, false),
        ("$.parts[*].ms", "lessThan", json!(51), true),
        ("$.parts[*].ms", "lessThan", json!(50), false),
        ("$.parts[*].up", "exists", Value::Null, true),
        ("$.parts[2].up", "exists", Value::Null, false),
        ("$.parts[2].up", "notExists", Value::Null, true),
        ("$.parts[*].down", "notExists", Value::Null, true),
        ("$.parts[*].down", "isTrue", Value::Null, false),
        ("$.parts[?@.ms > 10].ms", "equals", json!(50), true),
    ] {
        let assertion = json!({ "field": "body", "jsonPath": path, "operator": operator, "value": value });
        assert_eq!(judged(&assertion, &findings).passed, expected, "{assertion}");
    }
}

#[test]
fn why_it_does_not_hold_is_said_without_what_is_never_stored() {
    let long = "x".repeat(1_000);
    for (assertion, findings, actual, message) in [
        (
            json!({ "field": "statusCode", "operator": "equals", "value": 200 }),
            json!({ "statusCode": 500 }),
            Some(json!(500)),
            "statusCode is 500: equals 200 is expected",
        ),
        (
            json!({ "field": "values", "operator": "isEmpty" }),
            json!({ "values": ["a", "b"] }),
            Some(json!("array of 2")),
            "values is an array of 2: isEmpty is expected",
        ),
        (
            json!({ "field": "statusCode", "operator": "exists" }),
            json!({}),
            None,
            "statusCode does not exist: exists is expected",
        ),
        (
            json!({ "field": "body.$", "jsonPath": "$.a", "operator": "equals", "value": "ok" }),
            json!({ "body": json!({ "a": long }).to_string() }),
            Some(json!(format!("{}…", "x".repeat(200)))),
            r#"body $.a is not as expected: equals "ok" is expected"#,
        ),
        (
            json!({ "field": "body", "jsonPath": "$.a", "operator": "notExists" }),
            json!({ "body": "<html>" }),
            None,
            "body is not JSON: expected value at line 1 column 1",
        ),
        (
            json!({ "field": "body", "jsonPath": "$..*", "operator": "exists" }),
            json!({ "body": format!("[{}1]", "1,".repeat(2_000)) }),
            None,
            "body $..* leads to more than 1000 nodes",
        ),
        (
            json!({ "field": "headers", "jsonPath": "$['x-a']", "operator": "equals", "value": "b" }),
            json!({ "headers": { "x-a": "c" } }),
            Some(json!("c")),
            r#"headers $['x-a'] is "c": equals "b" is expected"#,
        ),
    ] {
        let found = judged(&assertion, &findings);
        assert_eq!((found.passed, found.actual, found.message.as_deref()), (false, actual, Some(message)));
    }
}

#[test]
fn a_field_with_a_dollar_is_the_field_with_a_path() {
    let findings = json!({ "body": r#"{"a": 1}"# });
    assert!(
        judged(&json!({ "field": "body.$", "jsonPath": "$.a", "operator": "equals", "value": 1 }), &findings).passed
    );
    assert!(judged(&json!({ "field": "body.$", "operator": "equals", "value": { "a": 1 } }), &findings).passed);
}

#[test]
fn hostile_documents_and_patterns_end_soon() {
    let zeros = "a".repeat((1 << 20) - 1) + "b";
    let deep = "[".repeat(1 << 20);
    let wide = format!("[{}[]]", "[[],[[]]],".repeat(50_000));
    let (mut assertions, mut findings) = (vec![], vec![]);
    for (assertion, body) in [
        (json!({ "field": "body", "operator": "matches", "value": "(a+)+$" }), &zeros),
        (json!({ "field": "body", "jsonPath": "$..*", "operator": "exists" }), &deep),
        (json!({ "field": "body", "jsonPath": "$..*..*..*", "operator": "exists" }), &wide),
        (json!({ "field": "body", "jsonPath": "$..[?@..*]..*", "operator": "exists" }), &wide),
    ] {
        let assertion: Assertion = serde_json::from_value(assertion).unwrap();
        assertions.push(assertion.prepare(&schema()).unwrap());
        findings.push(Map::from_iter([("body".to_owned(), json!(body))]));
    }
    for (assertion, findings) in assertions.iter().zip(&findings) {
        let started = Instant::now();
        let found = assertion.judge(findings);
        assert!(!found.passed, "{assertion:?}");
        // A test is not optimised, and shares the machine.
        assert!(started.elapsed().as_secs() < 60, "{:?} {found:?}", started.elapsed());
    }
}

#[test]
fn assertions_are_judged_in_order() {
    let ready: Vec<_> = [
        json!({ "field": "body", "jsonPath": "$.a", "operator": "equals", "value": 1 }),
        json!({ "field": "body", "jsonPath": "$.b", "operator": "exists" }),
        json!({ "field": "statusCode", "operator": "lessThan", "value": 300 }),
    ]
    .into_iter()
    .map(|one| serde_json::from_value::<Assertion>(one).unwrap().prepare(&schema()).unwrap())
    .collect();
    let findings = json!({ "body": r#"{"a": 1}"#, "statusCode": 200 });
    let passed: Vec<_> = judge(&ready, findings.as_object().unwrap()).iter().map(|one| one.passed).collect();
    assert_eq!(passed, [true, false, true]);
    assert_eq!(Operator::parse("lessThan"), Some(Operator::LessThan));
}
