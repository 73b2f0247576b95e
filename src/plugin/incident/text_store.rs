//! Incidents by a text in them: `SQLite` has an index of their trigrams (FTS5), whose rows are numbers of incidents.
//!
//! A text that few have is looked up there; one that many have is found soon by reading in order. PostgreSQL always reads
//! in order: an index for it needs an extension, which is the operator's to install.

use super::domain::{Incident, IncidentId};
use super::store::{Filter, before};
use crate::contract::Page;
use crate::database::search::{containing, folded};
use crate::database::{Reader, Timestamp, Writer, sql};
use crate::error::Result;

/// So many are few: beyond it, every hundredth of 100,000 has the text, and a page of 50 is full after some 5,000.
const FEW: i64 = 1_000;

/// A trigram of the index has so many characters, and a shorter text has none.
const GRAM: usize = 3;

/// Every one of them narrows the search; what is left after so many has the text, or nearly.
const GRAMS_MAX: usize = 40;

impl Reader {
    /// The numbers of all incidents that may contain a text, as JSON, if there are few.
    pub(super) async fn few_incidents(&mut self, text: &str) -> Result<Option<String>> {
        let Some(question) = question(text) else { return Ok(None) };
        let (count, places) = sql!(
            self,
            fetch_one as (i64, String),
            {
                sqlite: "select count(*), json_group_array(place)
                         from (select rowid as place from incident_text where incident_text match $1 limit $2)",
                postgres: "select cast($2 as bigint), cast($1 as text)",
            },
            question,
            FEW + 1
        )?;
        Ok((count <= FEW).then_some(places))
    }

    /// Those of these numbers, newest first.
    pub(super) async fn incidents_among(
        &mut self,
        places: String,
        page: &Page,
        filter: &Filter,
    ) -> Result<Vec<Incident>> {
        let ((at, id), text) = (before(page), filter.text.as_deref().map(containing));
        sql!(
            self,
            fetch_all as Incident,
            {
                sqlite: "select id, title, description, severity, status,
                         suppress_notifications, created_by_kind, created_by_id, created_by_name,
                         created_at, updated_at, resolved_at
                         from incident
                         where place in (select value from json_each($1)) and (created_at, id) < ($2, $3)
                           and created_at >= $4 and created_at < $5 and ($6 is null or status = $6)
                           and ($7 is null or severity = $7) and ($8 or is_active)
                           and search_text like coalesce($9, '') escape '!'
                           and ($10 is null or exists (select 1 from incident_system as link
                                                       where link.incident_id = incident.id and link.system_id = $10))
                         order by created_at desc, id desc limit $11",
                postgres: "select id, title, description, severity, status,
                           suppress_notifications, created_by_kind, created_by_id, created_by_name,
                           created_at, updated_at, resolved_at
                           from incident
                           where $1 <> '' and (created_at, id) < ($2, $3)
                             and created_at >= $4 and created_at < $5 and ($6 is null or status = $6)
                             and ($7 is null or severity = $7) and ($8 or is_active)
                             and search_text like coalesce($9, '') escape '!'
                             and ($10 is null or exists (select 1 from incident_system as link
                                                         where link.incident_id = incident.id and link.system_id = $10))
                           order by created_at desc, id desc limit $11",
            },
            places,
            at,
            id,
            filter.created_from.unwrap_or(Timestamp(i64::MIN)),
            filter.created_before.unwrap_or(Timestamp(i64::MAX)),
            filter.status,
            filter.severity,
            filter.includes_resolved || filter.status.is_some(),
            text,
            filter.system,
            page.limit()
        )
    }
}

impl Writer {
    /// Puts the text of an incident into the index, instead of the one before.
    pub(super) async fn index_text(&mut self, incident: &Incident) -> Result<u64> {
        sql!(
            self,
            execute,
            {
                sqlite: "insert or replace into incident_text (rowid, search_text)
                         select place, $2 from incident where id = $1",
                postgres: "select $1, $2",
            },
            incident.id,
            folded(&incident.searched())
        )
    }

    /// Takes the text of an incident out of the index. Before the incident goes, which has the number.
    pub(super) async fn forget_text(&mut self, id: IncidentId) -> Result<u64> {
        sql!(
            self,
            execute,
            {
                sqlite: "delete from incident_text where rowid = (select place from incident where id = $1)",
                postgres: "select $1",
            },
            id
        )
    }
}

/// What to ask the index for: trigrams side by side that the text has, all of them. `None`: it is too short to have any.
fn question(text: &str) -> Option<String> {
    let characters: Vec<char> = folded(text).chars().collect();
    if characters.len() < GRAM || characters.contains(&'\0') {
        return None;
    }
    // The last one overlaps with the one before.
    let starts = (0..=characters.len() - GRAM).step_by(GRAM).chain([characters.len() - GRAM]).take(GRAMS_MAX);
    let quoted = starts.filter_map(|start| {
        let gram: String = characters.get(start..start + GRAM)?.iter().collect();
        Some(format!("\"{}\"", gram.replace('"', "\"\"")))
    });
    Some(quoted.collect::<Vec<_>>().join(" AND "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_asked_for_by_its_trigrams() {
        for (text, expected) in [
            ("", None),
            ("ab", None),
            ("ABC", Some(r#""abc" AND "abc""#)),
            ("fail 47", Some(r#""fai" AND "l 4" AND " 47""#)),
            (r#"a"b OR"#, Some(r#""a""b" AND " or" AND " or""#)),
            ("a\0bc", None),
        ] {
            assert_eq!(question(text).as_deref(), expected, "{text}");
        }
    }
}
