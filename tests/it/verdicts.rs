//! The same value gets the same verdict through both protocols: at every limit that the contract states, and for inputs
//! drawn at random from the descriptors.

use crate::dynamic::{self, POOL, methods, procedure};
use crate::parity::comparable;
use crate::samples::Fixture;
use crate::server::{Answer, Caller, Server};
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, MethodDescriptor};
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;
use tonic_types::StatusExt;

/// A result, or what was refused: the code of JSON, the message, and every violation.
type Verdict = Result<Value, (String, String, BTreeSet<String>)>;

async fn by_json(caller: &Caller, procedure: &str, input: &Value) -> Verdict {
    let mut answer = caller.json(procedure, input.clone()).await;
    if answer.status == 200 {
        return Ok(comparable(&answer.body[procedure.split_once('.').unwrap().1].take()));
    }
    let Answer { body, .. } = answer;
    let path = |issue: &Value| {
        let steps = issue["path"].as_array().unwrap().iter().enumerate().map(|(at, step)| match step {
            Value::String(key) if at == 0 => key.clone(),
            Value::String(key) => format!(".{key}"),
            index => format!("[{index}]"),
        });
        steps.collect::<String>()
    };
    let issues = body["data"]["issues"].as_array().map_or(&[][..], Vec::as_slice).iter();
    let issues = issues.map(|issue| format!("{}: {}", path(issue), issue["message"].as_str().unwrap())).collect();
    let text = |key: &str| body[key].as_str().unwrap().to_owned();
    Err((text("code"), text("message"), issues))
}

async fn by_grpc(caller: &Caller, procedure: &str, input: &Value) -> Verdict {
    let status = match caller.grpc(procedure, input).await {
        Ok(result) => return Ok(comparable(&result)),
        Err(status) => status,
    };
    let code = checkmate::error::Error::from_status(&status).row().json.to_owned();
    let details = status.get_error_details();
    let violations = details.bad_request().map_or(&[][..], |bad| &bad.field_violations).iter();
    let issues = violations.map(|one| format!("{}: {}", one.field, one.description)).collect();
    Err((code, status.message().to_owned(), issues))
}

/// Asserts that two verdicts are one. Of several violations the protocols may find another first.
fn assert_equal(json: &Verdict, grpc: &Verdict, what: &str) {
    let (json, grpc) = (without_ids(json), without_ids(grpc));
    match (&json, &grpc) {
        (Err((_, _, many)), Err((_, _, others))) if many.len() > 1 => assert_eq!(many, others, "{what}"),
        _ => assert_eq!(json, grpc, "{what}"),
    }
}

/// The ids of two servers differ.
fn without_ids(verdict: &Verdict) -> Verdict {
    let id = |word: &str| uuid::Uuid::try_parse(word).is_ok();
    let words = |text: &str| {
        let words = text.split(' ').map(|word| if id(word) { "<id>" } else { word });
        words.collect::<Vec<_>>().join(" ")
    };
    let each = |issues: BTreeSet<String>| issues.iter().map(|issue| words(issue)).collect();
    verdict.clone().map_err(|(code, message, issues)| (code, words(&message), each(issues)))
}

/// Two servers in the same state, one for each protocol.
struct Twins {
    json: (Server, Fixture, String),
    grpc: (Server, Fixture, String),
}

impl Twins {
    async fn start() -> Self {
        let one = async || {
            let server = Server::start().await;
            let fixture = Fixture::of_things(&server).await;
            let page = server.admin().call("catalog.listSystems", json!({"pageSize": 1})).await;
            let token = page["nextPageToken"].as_str().unwrap().to_owned();
            (server, fixture, token)
        };
        Self { json: one().await, grpc: one().await }
    }

    /// Sends an input, in which names stand for ids, to both.
    async fn compare(&self, procedure: &str, input: &Value) -> Verdict {
        let filled = |(_, fixture, token): &(Server, Fixture, String)| filled(input, fixture, token);
        let json = by_json(&self.json.0.admin(), procedure, &filled(&self.json)).await;
        let grpc = by_grpc(&self.grpc.0.admin(), procedure, &filled(&self.grpc)).await;
        let shown: String = format!("{procedure} {input}").chars().take(2_000).collect();
        assert_equal(&json, &grpc, &shown);
        json
    }

    /// What there is on each.
    async fn assert_same_state(&self) {
        for list in ["catalog.getEntities", "catalog.getViews", "auth.getRoles", "auth.getApplications"] {
            let all = async |server: &Server| comparable(&server.admin().call(list, json!({})).await);
            let (mut json, mut grpc) = (all(&self.json.0).await, all(&self.grpc.0).await);
            for rows in [&mut json, &mut grpc] {
                // When a use is written down depends on the time of day, not on the protocol.
                for row in rows.as_array_mut().into_iter().flatten() {
                    row["lastUsedAt"].take();
                }
            }
            assert_eq!(json, grpc, "{list}");
        }
    }
}

/// The input with ids for names.
fn filled(input: &Value, fixture: &Fixture, token: &str) -> Value {
    match input {
        Value::String(text) => match text.as_str() {
            "<system>" => fixture.system.clone().into(),
            "<group>" => fixture.group.clone().into(),
            "<view>" => fixture.view.clone().into(),
            "<contact>" => fixture.contact.clone().into(),
            "<application>" => fixture.application.clone().into(),
            "<role>" => fixture.role.clone().into(),
            "<page>" => token.into(),
            _ => input.clone(),
        },
        Value::Array(items) => items.iter().map(|item| filled(item, fixture, token)).collect(),
        Value::Object(entries) => {
            entries.iter().map(|(key, item)| (key.clone(), filled(item, fixture, token))).collect()
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => input.clone(),
    }
}

/// What the contract says about a field.
struct Rules {
    length_max: usize,
    items_max: usize,
    json_bytes_max: usize,
    bounds: (i64, i64),
    format: i32,
    required: bool,
}

impl Rules {
    fn of(field: &FieldDescriptor) -> Self {
        let extension = POOL.get_extension_by_name("checkmate.options.v1.field").unwrap();
        let options = field.options();
        let rules: DynamicMessage = options.get_extension(&extension).as_message().unwrap().clone();
        let number = |name: &str| rules.get_field_by_name(name).unwrap().as_u32().unwrap() as usize;
        let bound = |name: &str| rules.get_field_by_name(name).unwrap().as_i64().unwrap();
        Self {
            length_max: number("length_max"),
            items_max: number("items_max"),
            json_bytes_max: number("json_bytes_max"),
            bounds: (bound("minimum"), bound("maximum")),
            format: rules.get_field_by_name("format").unwrap().as_enum_number().unwrap(),
            required: rules.get_field_by_name("required").unwrap().as_bool().unwrap(),
        }
    }

    /// Whether any text of the right length will do.
    fn is_free_text(&self) -> bool {
        self.length_max > 0 && self.format == 0
    }
}

/// A value at a limit or beyond it, and what is said beyond.
type Probe = (Value, Option<String>);

/// Values at every limit of a field, and one step beyond each.
fn probes(field: &FieldDescriptor) -> Vec<Probe> {
    let (rules, mut probes) = (Rules::of(field), vec![]);
    let listed = |item: Value| if field.is_list() { json!([item]) } else { item };
    if rules.is_free_text() && field.kind() == Kind::String {
        let (most, say) = (rules.length_max, format!("Must have at most {} characters", rules.length_max));
        for letter in ["x", "é", "😀"] {
            probes.push((listed(letter.repeat(most).into()), None));
            probes.push((listed(letter.repeat(most + 1).into()), Some(say.clone())));
        }
    }
    if rules.items_max > 0 {
        let (most, say) = (rules.items_max, format!("Must have at most {} items", rules.items_max));
        // Only so many violations are told: the items themselves have none.
        let item = field.kind().as_message().map_or(json!("x"), |inner| {
            let required = inner.fields().filter(|field| Rules::of(field).required);
            required.map(|field| (field.json_name().to_owned(), dynamic::good(&field))).collect()
        });
        probes.push((vec![item.clone(); most].into(), None));
        probes.push((vec![item; most + 1].into(), Some(say)));
    }
    if rules.bounds != (0, 0) {
        let ((least, most), say) = (rules.bounds, format!("Must be between {} and {}", rules.bounds.0, rules.bounds.1));
        probes.extend([(json!(least), None), (json!(most), None)]);
        probes.extend([(json!(least - 1), Some(say.clone())), (json!(most + 1), Some(say))]);
    }
    if rules.json_bytes_max > 0 {
        // `{"a":"…"}`
        let of = |bytes: usize| json!({"a": "x".repeat(bytes - 8)});
        probes.push((of(rules.json_bytes_max), None));
        let (most, more) = (rules.json_bytes_max, rules.json_bytes_max + 1);
        probes.push((of(more), Some(format!("Must have at most {most} bytes as JSON, has {more}"))));
        // Of lists inside: 33 objects are more than readers of Protobuf follow.
        let nested = |depth: usize| json!({"a": (1..depth).fold(json!(1), |inner, _| json!([inner]))});
        probes.push((nested(32), None));
        probes.push((nested(33), Some("Nests too deeply".into())));
    }
    probes
}

/// Every field of a message and of the messages in it, with its path.
fn fields(message: &MessageDescriptor, path: &[String]) -> Vec<(Vec<String>, FieldDescriptor)> {
    let mut all = vec![];
    for field in message.fields() {
        let here = [path, &[field.json_name().to_owned()]].concat();
        match field.kind() {
            Kind::Message(inner) if inner.full_name().starts_with("checkmate.") => {
                all.extend(field.is_list().then(|| (here.clone(), field.clone())));
                let first = field.is_list().then(|| "[0]".to_owned());
                all.extend(fields(&inner, &[here, first.into_iter().collect()].concat()));
            }
            _ => all.push((here, field)),
        }
    }
    all
}

/// The sample with another value at a path; of a list it is the first item.
fn with(mut sample: Value, path: &[String], value: Value) -> Value {
    if !sample.is_object() {
        sample = json!({"id": sample});
    }
    let mut here = &mut sample;
    for key in path {
        if key == "[0]" && here.as_array().is_none_or(Vec::is_empty) {
            *here = json!([{}]);
        }
        here = if key == "[0]" { &mut here[0] } else { &mut here[key] };
    }
    *here = value;
    sample
}

#[tokio::test]
async fn every_limit_of_the_contract_is_the_same_on_both_protocols() {
    let server = Server::start().await;
    let (fixture, admin) = (Fixture::of_nothing(), server.admin());
    let mut limits = 0;
    for method in methods() {
        let procedure = procedure(&method);
        for (path, field) in fields(&method.input(), &[]) {
            for (value, refusal) in probes(&field) {
                let input = with(fixture.sample(&procedure), &path, value);
                let json = by_json(&admin, &procedure, &input).await;
                let grpc = by_grpc(&admin, &procedure, &input).await;
                let what = format!("{procedure} {}: {refusal:?}", path.join("."));
                assert_equal(&json, &grpc, &what);
                let (code, _, issues) = json.err().unwrap_or_default();
                if code == "FORBIDDEN" {
                    // What is for the server itself is refused to everybody before it is looked at.
                    continue;
                }
                match &refusal {
                    // Other rules may still refuse it: a role that is not there, an id of nothing.
                    None => assert!(!issues.iter().any(|issue| issue.contains(" at most ")), "{what}: {issues:?}"),
                    Some(say) => assert!(issues.iter().any(|issue| issue.contains(say)), "{what}: {issues:?}"),
                }
                limits += 1;
            }
        }
    }
    assert!(limits > 150, "{limits} limits were found");
}

#[tokio::test]
async fn sizes_and_deadlines_are_refused_alike() {
    let server = Server::start_with(|config| {
        config.limits.body_bytes = 2_000;
        config.limits.grpc_message_bytes = 2_000;
    })
    .await;
    let admin = server.admin();
    for (bytes, code) in [(1_500, "BAD_REQUEST"), (3_000, "PAYLOAD_TOO_LARGE")] {
        let input = json!({"name": "x".repeat(bytes)});
        for verdict in [
            by_json(&admin, "catalog.createSystem", &input).await,
            by_grpc(&admin, "catalog.createSystem", &input).await,
        ] {
            assert_eq!(verdict.unwrap_err().0, code, "{bytes} bytes");
        }
    }
    for (name, value) in [
        ("x-timeout-ms", "0"),
        ("x-timeout-ms", "00"),
        ("x-timeout-ms", "x"),
        ("grpc-timeout", "1"),
        ("grpc-timeout", "5S"),
    ] {
        let request = admin.request("POST", "/api/catalog/").header(name, value).json(&json!({"getViews": {}}));
        let json = Answer::of(request.send().await.unwrap()).await;
        let code = json.body["code"].as_str().unwrap_or("OK").to_owned();
        let grpc = admin.grpc_with("catalog.getViews", &json!({}), &[(name, value)]).await;
        let grpc = grpc.map_or_else(|status| checkmate::error::Error::from_status(&status).row().json, |_| "OK");
        assert_eq!(code, grpc, "{name}: {value}");
    }
}

/// `SplitMix64`: the same draws in every run, so that a failure can be seen again.
struct Draw {
    state: u64,
    /// What is bad in the free JSON of this input.
    bad: Bad,
}

/// The protocols may find another of several kinds of violation first, so there is only one in an input.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Bad {
    Numbers,
    Nul,
}

impl Draw {
    fn below(&mut self, most: usize) -> usize {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.state ^ (self.state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % most as u64).unwrap()
    }

    fn of<T: Clone>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())].clone()
    }

    fn is_one_in(&mut self, many: usize) -> bool {
        self.below(many) == 0
    }

    /// An input for a message: most fields good, some at a limit, some bad, some absent, some `null`.
    fn message(&mut self, message: &MessageDescriptor) -> Value {
        let mut entries = Map::new();
        self.bad = self.of(&[Bad::Numbers, Bad::Nul]);
        for field in message.fields().filter(|field| field.name() != "update_mask") {
            if self.is_one_in(4) {
                continue;
            }
            // A list in Protobuf is there or empty, never null.
            let is_null = !field.is_list() && self.is_one_in(12);
            let value = if is_null { Value::Null } else { self.field(&field) };
            entries.insert(field.json_name().to_owned(), value);
        }
        Value::Object(entries)
    }

    fn field(&mut self, field: &FieldDescriptor) -> Value {
        let probes = probes(field);
        if !probes.is_empty() && self.is_one_in(6) {
            return self.of(&probes).0;
        }
        if field.is_list() {
            return (0..self.below(4)).map(|_| self.value(field)).collect();
        }
        self.value(field)
    }

    fn value(&mut self, field: &FieldDescriptor) -> Value {
        match field.kind() {
            Kind::String => self.text(field.json_name()),
            Kind::Bool => self.of(&[true, false]).into(),
            Kind::Int32 => self.of(&[1, 2, 50, 1_000, 0, -1, 1_001, i32::MAX, i32::MIN]).into(),
            Kind::Double => self.of(&[0.0, 1.5, -1.0, 86_400_001.0]).into(),
            Kind::Enum(names) => {
                let zero = names.get_value(0).unwrap();
                let prefix = zero.name().trim_end_matches("UNSPECIFIED").to_owned();
                let known: Vec<_> = names.values().skip(1).collect();
                self.of(&known).name().trim_start_matches(&prefix).to_lowercase().into()
            }
            Kind::Message(message) if message.full_name() == "google.protobuf.Timestamp" => self.time(),
            Kind::Message(message) if message.full_name() == "google.protobuf.Struct" => self.object(3),
            Kind::Message(message) if message.full_name() == "google.protobuf.Value" => self.free(3),
            Kind::Message(message) => self.message(&message),
            other => panic!("{other:?} has no values"),
        }
    }

    fn text(&mut self, name: &str) -> Value {
        let named = match name {
            "systemId" => "<system>",
            "groupId" => "<group>",
            "viewId" => "<view>",
            "contactId" => "<contact>",
            "applicationId" => "<application>",
            "roleId" | "role" => "<role>",
            "pageToken" => "<page>",
            "permissions" => "catalog.catalog.read",
            "roles" => "reader",
            "email" => "ops@example.org",
            "id" => return self.of(&["<system>", "<group>", "<view>", "<application>", "<role>"]).into(),
            _ => "web",
        };
        if !self.is_one_in(3) {
            return named.into();
        }
        let others = [
            "",
            " ",
            "\u{a0}",
            "x",
            " x ",
            "\0",
            "a\0b",
            "ÄÖÜ",
            "e\u{301}",
            "😀",
            "\u{feff}",
            "\u{202e}x",
            "%",
            "_",
            "'",
            "*",
            "catalog.*",
            "nope",
            "admin",
            "anonymous",
            "reader",
            "a@b.co",
            "a@b",
            "AAAA",
            "01890a5d-ac96-774b-bcce-b302099a8057",
            "<system>",
            "<role>",
            "01890A5D-AC96-774B-BCCE-B302099A8057",
            "01890a5dac96774bbcceb302099a8057",
            "<application>",
            "\u{fffd}",
            "\n",
            "null",
        ];
        self.of(&others).into()
    }

    fn time(&mut self) -> Value {
        let times = [
            "2027-01-01T00:00:00Z",
            "2027-06-30T23:59:59.999Z",
            "2027-01-01T00:00:00.123456789Z",
            "2027-01-01T01:00:00+01:00",
            "2026-01-05T14:52:47Z",
            "2020-01-01T00:00:00Z",
            "1969-12-31T23:59:59.5Z",
            "0001-01-01T00:00:00Z",
            "9999-12-30T21:59:59Z",
        ];
        self.of(&times).into()
    }

    fn object(&mut self, depth: usize) -> Value {
        let keys = ["a", "b", "", " ", "ä", "a.b", "__proto__", "\0"];
        let keys = if self.bad == Bad::Nul { &keys[..] } else { &keys[..7] };
        let entries = (0..self.below(4)).map(|_| (self.of(keys).to_owned(), self.free(depth - 1)));
        Value::Object(entries.collect())
    }

    /// Free JSON.
    fn free(&mut self, depth: usize) -> Value {
        match self.below(if depth == 0 { 8 } else { 10 }) {
            0 => Value::Null,
            1 => self.of(&[true, false]).into(),
            2 => self.of(&[0, 1, -1, 9_007_199_254_740_992_i64, -9_007_199_254_740_992]).into(),
            3 => self.of(&[0.5, -0.0, 1e-7, 5e-324, 0.1]).into(),
            4 if self.bad == Bad::Numbers => self.of(&[1_u64 << 53, 1 << 60, 1 << 63]).into(),
            5 => self.of(&["x", "", "ä", "\u{feff}"]).into(),
            6 if self.bad == Bad::Nul => self.of(&["\0", "a\0b", "x"]).into(),
            4 | 6 | 7 => json!([]),
            8 => (0..self.below(4)).map(|_| self.free(depth - 1)).collect(),
            _ => self.object(depth),
        }
    }
}

/// What a caller may send at all, whatever its state is then.
fn is_sendable(method: &MethodDescriptor, input: &Value) -> bool {
    let path = format!("/{}/{}", method.parent_service().full_name(), method.name());
    std::panic::catch_unwind(|| dynamic::request(&path, input)).is_ok()
}

#[tokio::test]
async fn random_inputs_get_the_same_verdicts_and_leave_the_same_state() {
    let (twins, mut draw) = (Twins::start().await, Draw { state: 1, bad: Bad::Nul });
    let all: Vec<_> = methods().collect();
    let (mut good, mut bad) = (0, 0);
    for _ in 0..600 {
        let method = draw.of(&all);
        let input = draw.message(&method.input());
        assert!(is_sendable(&method, &input), "{input}");
        match twins.compare(&procedure(&method), &input).await {
            Ok(_) => good += 1,
            Err(_) => bad += 1,
        }
    }
    twins.assert_same_state().await;
    assert!(good > 80 && bad > 200, "{good} were accepted, {bad} refused");
}
