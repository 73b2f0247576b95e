//! Protobuf that is none, nests too deeply, or means what the contract refuses.

use super::wire::Grpc;
use super::{NOTHING, Row, grpc};
use tonic::Code;

pub const GET: &str = "/checkmate.catalog.v1.CatalogService/GetSystem";
const LIST: &str = "/checkmate.catalog.v1.CatalogService/ListSystems";
const UPDATE: &str = "/checkmate.catalog.v1.CatalogService/UpdateSystem";
const UPDATE_VIEW: &str = "/checkmate.catalog.v1.CatalogService/UpdateView";
const CONTACT: &str = "/checkmate.catalog.v1.CatalogService/AddSystemContact";
const UPDATE_APPLICATION: &str = "/checkmate.auth.v1.ApplicationService/UpdateApplication";

/// A whole number as Protobuf writes it.
pub fn varint(mut number: u64) -> Vec<u8> {
    let mut bytes = vec![];
    while number > 127 {
        bytes.push(u8::try_from(number & 127).unwrap() | 128);
        number >>= 7;
    }
    bytes.push(u8::try_from(number).unwrap());
    bytes
}

/// A field with its length before it.
pub fn field(number: u64, content: impl AsRef<[u8]>) -> Vec<u8> {
    let content = content.as_ref();
    [&varint(number << 3 | 2)[..], &varint(content.len() as u64), content].concat()
}

/// A field that is a number.
fn count(number: u64, value: u64) -> Vec<u8> {
    [varint(number << 3), varint(value)].concat()
}

/// A field of any wire type: with nothing behind its tag.
fn tag(number: u64, wire_type: u64) -> Vec<u8> {
    varint(number << 3 | wire_type)
}

/// `GetSystem` of nothing, and something else.
fn get(more: &[u8]) -> Grpc {
    Grpc::call(GET, [&field(1, NOTHING), more].concat())
}

fn list(fields: impl AsRef<[u8]>) -> Grpc {
    Grpc::call(LIST, fields)
}

fn update(data: impl AsRef<[u8]>) -> Grpc {
    Grpc::call(UPDATE, [field(1, NOTHING), field(2, data)].concat())
}

/// An entry of a `Struct`, whose value is these bytes of a `Value`.
fn entry(key: &str, value: &[u8]) -> Vec<u8> {
    field(1, [field(1, key), field(2, value)].concat())
}

fn metadata(value: &[u8]) -> Grpc {
    update(field(4, entry("a", value)))
}

/// A `Value` that is a list in a list in a list…
fn nested(depth: usize) -> Vec<u8> {
    (0..depth).fold(vec![8, 0], |inner, _| field(6, field(1, inner)))
}

/// The same in a tenth of the time: lengths are written from the inside.
fn nested_groups(depth: usize) -> Vec<u8> {
    [tag(100, 3).repeat(depth), tag(100, 4).repeat(depth)].concat()
}

#[expect(clippy::too_many_lines, reason = "a table")]
pub fn rows() -> Vec<Row> {
    let (bad, absent) = (Code::InvalidArgument, Code::NotFound);
    let malformed = "Malformed Protobuf: ";
    let mut rows = vec![
        grpc("what is good", get(&[]), absent, "System not found"),
        grpc("a field that nobody knows", get(&field(99, "x")), absent, "System not found"),
        grpc("1 MiB that nobody knows", get(&field(99, vec![0; 1 << 20])), absent, "System not found"),
        grpc("the largest field number", get(&field((1 << 29) - 1, "x")), absent, "System not found"),
        grpc("a field number beyond the largest", get(&field(1 << 29, "x")), bad, malformed),
        grpc("field number 0", get(&field(0, "x")), bad, malformed),
        grpc("wire type 6", get(&tag(99, 6)), bad, malformed),
        grpc("wire type 7", get(&tag(99, 7)), bad, malformed),
        grpc("a tag of 11 bytes", get(&[0xff; 11]), bad, malformed),
        grpc("a tag without an end", get(&[0xff]), bad, malformed),
        grpc("a tag of zeros", get(&[0]), bad, malformed),
        grpc(
            "a varint of 10 bytes",
            list([&tag(1, 0)[..], &[0x81, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0]].concat()),
            Code::Ok,
            "",
        ),
        grpc("a varint of 11 bytes", list([&tag(1, 0)[..], &[0x80; 10], &[0]].concat()), bad, malformed),
        grpc("a varint beyond 64 bits", list([&tag(1, 0)[..], &[0xff; 9], &[2]].concat()), bad, malformed),
        grpc("a varint without an end", list([&tag(1, 0)[..], &[0x80]].concat()), bad, malformed),
        grpc("a length beyond the message", get(&[&tag(2, 2)[..], &varint(1000)].concat()), bad, malformed),
        grpc("a length of 2^32 - 1", get(&[&tag(2, 2)[..], &varint(0xffff_ffff)].concat()), bad, malformed),
        grpc("a length of 2^63", get(&[&tag(2, 2)[..], &varint(1 << 63)].concat()), bad, malformed),
        grpc("a length of 2^64 - 1", get(&[&tag(2, 2)[..], &varint(u64::MAX)].concat()), bad, malformed),
        grpc("a length beyond its message", update([&tag(1, 2)[..], &varint(60)].concat()), bad, malformed),
        grpc("half of a fixed number", get(&[&tag(99, 1)[..], &[0; 7]].concat()), bad, malformed),
        grpc("half of a short fixed number", get(&[&tag(99, 5)[..], &[0; 3]].concat()), bad, malformed),
        grpc("a number for a text", Grpc::call(GET, count(1, 1)), bad, malformed),
        grpc("a fixed number for a text", Grpc::call(GET, [&tag(1, 1)[..], &[0; 8]].concat()), bad, malformed),
        grpc("a short fixed number for a text", Grpc::call(GET, [&tag(1, 5)[..], &[0; 4]].concat()), bad, malformed),
        grpc("a group for a text", Grpc::call(GET, [tag(1, 3), tag(1, 4)].concat()), bad, malformed),
        grpc("a text for a number", list(field(1, "5")), bad, malformed),
        grpc("a fixed number for a number", list([&tag(1, 5)[..], &[1, 0, 0, 0]].concat()), bad, malformed),
        grpc("a number for a message", Grpc::call(UPDATE, [field(1, NOTHING), count(2, 1)].concat()), bad, malformed),
        grpc("a number for an entry", update(field(4, count(1, 1))), bad, malformed),
        grpc("a group that ends", get(&nested_groups(1)), absent, "System not found"),
        grpc("a group without an end", get(&tag(99, 3)), bad, malformed),
        grpc("an end without a group", get(&tag(99, 4)), bad, malformed),
        grpc("a group with another's end", get(&[tag(99, 3), tag(98, 4)].concat()), bad, malformed),
        grpc("99 groups", get(&nested_groups(99)), absent, "System not found"),
        grpc("200 groups", get(&nested_groups(200)), bad, malformed),
        grpc("100,000 groups", get(&nested_groups(100_000)), bad, malformed),
        grpc("100,000 groups without an end", get(&tag(99, 3).repeat(100_000)), bad, malformed),
        grpc("31 lists in free JSON", metadata(&nested(31)), absent, "System not found"),
        grpc("32 lists in free JSON", metadata(&nested(32)), bad, ": Nests too deeply"),
        grpc("100 lists in free JSON", metadata(&nested(100)), bad, malformed),
        grpc("3,000 lists in free JSON", metadata(&nested(3_000)), bad, malformed),
        grpc(
            "1,000,000 empty values",
            Grpc::call(
                UPDATE_VIEW,
                [field(1, NOTHING), field(2, field(3, field(6, field(1, []).repeat(1_000_000))))].concat(),
            ),
            bad,
            "data.configuration: Must have at most 65536 bytes",
        ),
        grpc(
            "1,000,000 empty roles",
            Grpc::call(UPDATE_APPLICATION, [field(1, NOTHING), field(4, []).repeat(1_000_000)].concat()),
            bad,
            "roles: Must have at most 100 items",
        ),
        grpc("100,000 names in a mask", update(field(5, field(1, "x").repeat(100_000))), bad, "Unknown field"),
        grpc("100,000 times the id", Grpc::call(GET, field(1, NOTHING).repeat(100_000)), absent, "System not found"),
        grpc(
            "of a field given twice the last",
            Grpc::call(GET, [field(1, "x"), field(1, NOTHING)].concat()),
            absent,
            "System not found",
        ),
        grpc(
            "of a field given twice the last, bad",
            Grpc::call(GET, [field(1, NOTHING), field(1, "x")].concat()),
            bad,
            "systemId: Must be a UUID",
        ),
        grpc(
            "a message in two parts is one",
            Grpc::call(
                UPDATE,
                [field(1, NOTHING), field(2, field(1, "a")), field(2, field(2, vec![b'x'; 4_001]))].concat(),
            ),
            bad,
            "data.description: Must have at most 4000 characters",
        ),
        grpc(
            "a key of free JSON twice",
            update(field(4, [entry("a", &field(3, "\0")), entry("a", &field(3, "b"))].concat())),
            absent,
            "System not found",
        ),
        grpc("an entry without a key", update(field(4, field(1, field(2, [8, 0])))), absent, "System not found"),
        grpc("an entry without a value", update(field(4, field(1, field(1, "a")))), absent, "System not found"),
        grpc("a value of no kind", metadata(&[]), absent, "System not found"),
        grpc(
            "a value of two kinds is the last",
            metadata(&[field(3, "\0"), count(4, 1)].concat()),
            absent,
            "System not found",
        ),
        grpc("a null of another number", metadata(&count(1, 99)), absent, "System not found"),
        grpc("a boolean of 2", metadata(&count(4, 2)), absent, "System not found"),
        grpc("NaN", metadata(&number(f64::NAN)), bad, "data.metadata.a: JSON has only finite numbers"),
        grpc(
            "a NaN with a payload",
            metadata(&number(f64::from_bits(0x7ff8_dead_beef_0001))),
            bad,
            "JSON has only finite numbers",
        ),
        grpc("infinity", metadata(&number(f64::INFINITY)), bad, "data.metadata.a: "),
        grpc("minus infinity", metadata(&number(f64::NEG_INFINITY)), bad, "data.metadata.a: "),
        grpc("minus zero", metadata(&number(-0.0)), absent, "System not found"),
        grpc("2^53", metadata(&number(9_007_199_254_740_992.0)), absent, "System not found"),
        grpc("2^53 + 2", metadata(&number(9_007_199_254_740_994.0)), bad, "Whole numbers beyond 2^53 are not exact"),
        grpc("NUL in free JSON, Protobuf", metadata(&field(3, "\0")), bad, "Must not contain the character NUL"),
        grpc(
            "NUL in a key, Protobuf",
            update(field(4, entry("\0", &[8, 0]))),
            bad,
            "Must not contain the character NUL",
        ),
        grpc("NUL in a name, Protobuf", update(field(1, "a\0b")), bad, "data.name: Must not contain the character NUL"),
        grpc(
            "NUL in an id, Protobuf",
            Grpc::call(GET, field(1, "\0")),
            bad,
            "systemId: Must not contain the character NUL",
        ),
        grpc("a page size of 0", list(count(1, 0)), bad, "pageSize: Must be between 1 and 1000"),
        grpc("a page size of -1", list(count(1, u64::MAX)), bad, "pageSize: Must be between 1 and 1000"),
        grpc("a page size of 1001", list(count(1, 1001)), bad, "pageSize: Must be between 1 and 1000"),
        // Protobuf itself says that a number of 32 bits is cut to its low bits.
        grpc("a page size of 2^32 + 1 is 1", list(count(1, (1 << 32) + 1)), Code::Ok, ""),
        grpc("a page token of nothing", list(field(2, "")), bad, "pageToken: Is not a page token"),
        grpc(
            "a type that has no name",
            Grpc::call(CONTACT, [field(1, NOTHING), count(2, 99), field(3, "u")].concat()),
            bad,
            "type: Must be one of user, mailbox",
        ),
        grpc(
            "a type of -1",
            Grpc::call(CONTACT, [field(1, NOTHING), count(2, u64::MAX), field(3, "u")].concat()),
            bad,
            "type: Must be one of user, mailbox",
        ),
        grpc("a type of 0", Grpc::call(CONTACT, [field(1, NOTHING), count(2, 0)].concat()), bad, "type: Required"),
        grpc(
            "a time before year 1",
            time(count(1, (-62_135_596_801_i64).cast_unsigned())),
            bad,
            "expiresAt: Must be a time between",
        ),
        grpc("a time after year 9999", time(count(1, 253_402_300_800)), bad, "expiresAt: Must be a time between"),
        grpc("a time of 2^63 - 1", time(count(1, i64::MAX.cast_unsigned())), bad, "expiresAt: Must be a time between"),
        grpc("a time of -2^63", time(count(1, i64::MIN.cast_unsigned())), bad, "expiresAt: Must be a time between"),
        grpc("nanoseconds below 0", time(count(2, u64::MAX)), bad, "expiresAt: Must be a time between"),
        grpc("a second of nanoseconds", time(count(2, 1_000_000_000)), bad, "expiresAt: Must be a time between"),
        grpc("a mask of a field that is not there", update(field(5, field(1, "colour"))), bad, "Unknown field: colour"),
        grpc("a mask of a JSON name", update(field(5, field(1, "updateMask"))), bad, "Unknown field: updateMask"),
        grpc("a mask of everything", update(field(5, field(1, "*"))), bad, "Unknown field: *"),
        grpc("a mask of a path", update(field(5, field(1, "metadata.a"))), bad, "Unknown field: metadata.a"),
        grpc("a mask that clears the name", update(field(5, field(1, "name"))), bad, "data.name: Must not be null"),
        grpc("a mask of nothing", update(field(5, [])), absent, "System not found"),
        grpc(
            "a name of 1 MiB, Protobuf",
            update(field(1, vec![b'x'; 1 << 20])),
            bad,
            "data.name: Must have at most 200 characters",
        ),
        grpc("no id", Grpc::call(GET, []), bad, "systemId: Required"),
        grpc("a message beyond 4 MiB", get(&field(99, vec![0; 4 << 20])), Code::ResourceExhausted, "4194304"),
        grpc("a message of text", Grpc::call(GET, "{\"systemId\":\"x\"}"), bad, malformed),
        grpc("a message of 0xFF", Grpc::call(GET, [0xff; 64]), bad, malformed),
    ];
    for (name, bytes) in [
        ("a byte of Latin-1", &b"\xe9"[..]),
        ("0xFF", b"\xff"),
        ("an overlong NUL", b"\xc0\x80"),
        ("a surrogate", b"\xed\xa0\x80"),
        ("half of a character", b"\xf0\x9f\x98"),
        ("a character beyond U+10FFFF", b"\xf4\x90\x80\x80"),
    ] {
        rows.push(grpc(format!("{name} in an id, Protobuf"), Grpc::call(GET, field(1, bytes)), bad, malformed));
        let key = update(field(4, field(1, [field(1, bytes), field(2, [8, 0])].concat())));
        rows.push(grpc(format!("{name} in a key, Protobuf"), key, bad, malformed));
        rows.push(grpc(format!("{name} in free JSON, Protobuf"), metadata(&field(3, bytes)), bad, malformed));
    }
    rows
}

fn number(value: f64) -> Vec<u8> {
    [&tag(2, 1)[..], &value.to_le_bytes()].concat()
}

fn time(timestamp: Vec<u8>) -> Grpc {
    Grpc::call(UPDATE_APPLICATION, [field(1, NOTHING), field(5, timestamp)].concat())
}

/// What is left of a message is refused, or is a smaller message: never anything else, wherever it was cut.
#[tokio::test]
async fn a_message_cut_at_any_byte_is_malformed_or_a_smaller_one() {
    use prost_reflect::DynamicMessage;
    let data =
        [field(1, "web"), field(2, "the front"), field(4, entry("a", &field(3, "b"))), field(5, field(1, "name"))];
    let whole = [field(1, NOTHING), field(2, data.concat())].concat();
    let descriptor = crate::dynamic::POOL.get_message_by_name("checkmate.catalog.v1.UpdateSystemRequest").unwrap();
    let rows: Vec<_> = (0..whole.len())
        .map(|end| {
            let piece = &whole[..end];
            let is_whole = DynamicMessage::decode(descriptor.clone(), piece).is_ok();
            let part = if is_whole { "" } else { "Malformed Protobuf: " };
            grpc(format!("{end} bytes"), Grpc::call(UPDATE, piece), Code::InvalidArgument, part)
        })
        .collect();
    super::hold(rows).await;
}

/// Every bit of a good message turned: whatever it means then, it is not our fault.
#[tokio::test]
async fn a_message_with_one_bit_turned_is_answered_in_words() {
    let server = super::target().await;
    let (admin, whole) = (server.admin(), [field(1, NOTHING), field(2, field(1, "web"))].concat());
    let (address, key) = (server.url.trim_start_matches("http://"), admin.key.unwrap());
    for bit in 0..whole.len() * 8 {
        let mut turned = whole.clone();
        turned[bit / 8] ^= 1 << (bit % 8);
        let answer = Grpc::call(UPDATE, &turned).send(address, &key).await;
        let is_documented =
            [Code::InvalidArgument, Code::NotFound].map(|code| Some(code as i32)).contains(&answer.status);
        assert!(is_documented && !answer.message.is_empty(), "bit {bit}: {answer:?}");
    }
}
