//! Case-insensitive search: `like` and `lower` differ between the databases, so names are stored folded as well.

/// A name as it is compared. By way of the upper case, and character by character: `ß` is `SS`, and a sigma is the same
/// letter wherever it stands in a word.
#[must_use]
pub fn folded(name: &str) -> String {
    name.chars().flat_map(char::to_uppercase).flat_map(char::to_lowercase).collect()
}

/// A pattern for `like coalesce(…, '') escape '!'` that matches folded names containing a text. The `coalesce` is for
/// `SQLite`, which prepares a statement anew for every value of a bare parameter behind `like`.
#[must_use]
pub fn containing(text: &str) -> String {
    let mut pattern = String::from("%");
    for character in folded(text).chars() {
        if matches!(character, '%' | '_' | '!') {
            pattern.push('!');
        }
        pattern.push(character);
    }
    pattern.push('%');
    pattern
}

#[cfg(test)]
mod tests {
    #[test]
    fn case_is_nothing_to_a_search() {
        for [one, other] in [["ΟΔΟΣ", "οδος"], ["οδος", "οδοσ"], ["STRASSE", "straße"], ["ÄÖ", "äö"]]
        {
            assert_eq!(super::folded(one), super::folded(other), "{one} {other}");
        }
    }

    #[test]
    fn wildcards_of_the_caller_are_taken_literally() {
        assert_eq!(super::containing("50%_Off!"), "%50!%!_off!!%");
    }
}
