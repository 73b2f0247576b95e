//! Case-insensitive search: `like` and `lower` differ between the databases, so names are stored folded as well.

/// A name as it is compared.
#[must_use]
pub fn folded(name: &str) -> String {
    name.to_lowercase()
}

/// A pattern for `like … escape '!'` that matches folded names containing a text.
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
    fn wildcards_of_the_caller_are_taken_literally() {
        assert_eq!(super::containing("50%_Off!"), "%50!%!_off!!%");
    }
}
