//! Messages of a stream as rows of a table (RFC 4180).

use serde_json::{Map, Value};

/// What says where a message stands in its stream, not what it is about.
const NOT_SHOWN: [&str; 2] = ["cursor", "type"];

/// The row of a message, behind the names of the columns if it is the first: its fields, which later ones have as well.
pub(super) fn rows(json: &[u8], columns: &mut Option<Vec<String>>) -> Vec<u8> {
    let Ok(message) = serde_json::from_slice::<Map<String, Value>>(json) else { return vec![] };
    let mut lines = String::new();
    let columns = columns.get_or_insert_with(|| {
        let names: Vec<_> = message.keys().filter(|name| !NOT_SHOWN.contains(&name.as_str())).cloned().collect();
        write(&mut lines, names.iter().cloned());
        names
    });
    write(&mut lines, columns.iter().map(|name| message.get(name).map_or_else(String::new, cell)));
    lines.into_bytes()
}

fn cell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => value.to_string(),
    }
}

fn write(lines: &mut String, cells: impl Iterator<Item = String>) {
    for (place, cell) in cells.enumerate() {
        if place > 0 {
            lines.push(',');
        }
        if cell.contains([',', '"', '\r', '\n']) {
            lines.push('"');
            lines.push_str(&cell.replace('"', "\"\""));
            lines.push('"');
        } else {
            lines.push_str(&cell);
        }
    }
    lines.push_str("\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_quoted_where_they_have_to_be() {
        let mut columns = None;
        let first = rows(br#"{"cursor":"1-2","type":"current","b":"x,\"y\"","a":1.5,"n":null}"#, &mut columns);
        let second = rows(br#"{"a":2,"b":"line\nbreak","c":"unknown"}"#, &mut columns);
        let text = String::from_utf8([first, second].concat()).unwrap();
        let columns = columns.unwrap();
        assert_eq!(columns.len(), 3, "{columns:?}");
        let row = |values: [(&str, &str); 3]| {
            let value = |name: &String| values.iter().find(|(known, _)| known == name).unwrap().1;
            columns.iter().map(value).collect::<Vec<_>>().join(",")
        };
        let quoted = row([("a", "1.5"), ("b", "\"x,\"\"y\"\"\""), ("n", "")]);
        let broken = row([("a", "2"), ("b", "\"line\nbreak\""), ("n", "")]);
        assert_eq!(text, format!("{}\r\n{quoted}\r\n{broken}\r\n", columns.join(",")));
    }
}
