//! What the build refuses, with the name of the culprit.

#[path = "../../src/codegen/model.rs"]
#[expect(dead_code, reason = "the generator reads more of it than this test")]
mod model;

type Result<T, E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

/// What the build says about a .proto with this service and these messages.
fn refusal(service: &str, messages: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("proto/checkmate/options/v1/options.proto");
    let options = folder.path().join("checkmate/options/v1/options.proto");
    std::fs::create_dir_all(options.parent().unwrap()).unwrap();
    std::fs::copy(root, options).unwrap();
    let text = format!(
        r#"syntax = "proto3";
        package checkmate.sample.v1;
        import "checkmate/options/v1/options.proto";
        option (checkmate.options.v1.plugin) = {{
          id: "sample" permissions: {{ id: "sample.sample.read" description: "Reads" }}
        }};
        // Samples.
        service SampleService {{ {service} }}
        {messages}"#
    );
    std::fs::write(folder.path().join("sample.proto"), text).unwrap();
    let mut compiler = protox::Compiler::new([folder.path()]).unwrap();
    compiler.include_imports(true).include_source_info(true);
    compiler.open_file("sample.proto").unwrap();
    match model::Contract::read(&compiler.descriptor_pool()) {
        Ok(_) => "nothing".into(),
        Err(why) => why.to_string(),
    }
}

const PLUGIN: &str = "option (checkmate.options.v1.plugin_id) = \"sample\";";
const ACCESS: &str = "option (checkmate.options.v1.access) = {permissions: \"sample.sample.read\"};";
const MESSAGES: &str = "message GetRequest {} message GetResponse {}";

#[test]
fn a_method_says_who_may_call_it() {
    let method = "\n// Gets.\n rpc Get(GetRequest) returns (GetResponse)";
    assert_eq!(refusal(&format!("{PLUGIN} {method} {{ {ACCESS} }}"), MESSAGES), "nothing");
    let silent = refusal(&format!("{PLUGIN} {method};"), MESSAGES);
    let name = "checkmate.sample.v1.SampleService.Get";
    assert_eq!(silent, format!("{name}: no (checkmate.options.v1.access): say who may call it"));
}

#[test]
fn two_procedures_do_not_share_a_name() {
    let method = |name: &str, json: &str| {
        format!("\n// Gets.\n rpc {name}(GetRequest) returns (GetResponse) {{ {ACCESS} {json} }}")
    };
    let alias = "option (checkmate.options.v1.json) = {aliases: \"get\"};";
    let refusal = refusal(&format!("{PLUGIN} {} {}", method("Get", ""), method("Fetch", alias)), MESSAGES);
    assert_eq!(refusal, "/checkmate.sample.v1.SampleService/Fetch: sample.get is taken");
}

#[test]
fn what_cannot_be_generated_fails_with_its_name() {
    let good = format!("{PLUGIN} \n// Gets.\n rpc Get(GetRequest) returns (GetResponse) {{ {ACCESS} }}");
    let with_field = |field: &str| format!("message GetRequest {{ \n{field} }} message GetResponse {{}}");
    let cases = [
        (
            format!("\n// Gets.\n rpc Get(GetRequest) returns (GetResponse) {{ {ACCESS} }}"),
            MESSAGES.to_owned(),
            "SampleService: no (checkmate.options.v1.plugin_id)",
        ),
        (
            good.replace("sample.sample.read", "sample.sample.write"),
            MESSAGES.to_owned(),
            "/checkmate.sample.v1.SampleService/Get: sample.sample.write is not a permission of its plugin",
        ),
        (
            good.replace("returns (", "returns (stream "),
            MESSAGES.to_owned(),
            "Get: what streams is a query, and its name starts with Watch or Export",
        ),
        (good.replace("// Gets.", ""), MESSAGES.to_owned(), "Get: no comment"),
        (
            good.replace(ACCESS, &format!("{ACCESS} option (checkmate.options.v1.json) = {{output: \"nope\"}};")),
            MESSAGES.to_owned(),
            "Get: (checkmate.options.v1.json) names a field that does not exist",
        ),
        (good.clone(), with_field("string name = 1;"), "GetRequest.name: no comment"),
        (
            good.clone(),
            with_field("// A.\n map<string, string> a = 1;"),
            "GetRequest: nested types and maps are not generated",
        ),
        (
            good.clone(),
            with_field("// A.\n oneof a { /* B. */ string b = 1; }"),
            "GetRequest: oneofs are not generated",
        ),
        (good.clone(), with_field("// A.\n fixed32 a = 1;"), "GetRequest.a: fixed32 is not generated"),
        (
            good,
            with_field("// A.\n string a = 1 [(checkmate.options.v1.field).nullable = true];"),
            "GetRequest.a: only what can be absent is nullable",
        ),
    ];
    for (service, messages, expected) in cases {
        let refusal = refusal(&service, &messages);
        assert!(refusal.contains(expected), "expected {expected:?}, got {refusal:?}");
    }
}

#[test]
fn what_streams_is_a_query_that_can_be_resumed() {
    let method = |kind: &str| {
        format!(
            "{PLUGIN} \n// Watches.\n rpc WatchAll({}GetRequest) returns ({}GetResponse) {{ {ACCESS} {} }}",
            if kind == "both ways" { "stream " } else { "" },
            if kind == "not at all" { "" } else { "stream " },
            if kind == "changing" { "" } else { "option idempotency_level = NO_SIDE_EFFECTS;" }
        )
    };
    let cursor = "\n// From where.\n optional string cursor = 1;";
    let kind = "\n// What.\n Kind type = 2;";
    let messages = |request: &str, response: &str| {
        format!(
            "enum Kind {{ KIND_UNSPECIFIED = 0; KIND_MADE = 1; }}
             message GetRequest {{ {request} }} message GetResponse {{ {response} }}"
        )
    };
    let good = messages(cursor, &format!("{cursor}{kind}"));
    assert_eq!(refusal(&method("out"), &good), "nothing");
    let parts = "a stream has an optional cursor in its request and its messages, and their type";
    for (service, messages, expected) in [
        (method("both ways"), good.clone(), "streams of callers are not generated"),
        (method("changing"), good.clone(), "what streams is a query, and its name starts with Watch or Export"),
        (
            method("out").replace("WatchAll", "All"),
            good,
            "what streams is a query, and its name starts with Watch or Export",
        ),
        (method("out"), messages("", &format!("{cursor}{kind}")), parts),
        (method("out"), messages(cursor, kind), parts),
        (method("out"), messages(cursor, cursor), parts),
    ] {
        let refusal = refusal(&service, &messages);
        assert!(refusal.ends_with(expected), "expected {expected:?}, got {refusal:?}");
    }
}
