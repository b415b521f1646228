//! What column definitions tell of a collation.

use std::borrow::Cow;

/// The collation whose number stands in column definitions for this one. MariaDB's own UCA 14.0.0 collations have
/// numbers that clients do not know: the server tells them that of the older collation of the same language.
pub(crate) fn in_definitions(collation: &str) -> Cow<'_, str> {
    let Some((charset, tail)) = collation.split_once("_uca1400_") else { return Cow::Borrowed(collation) };
    let language = match tail.split('_').next() {
        None | Some("nopad" | "ai" | "as") => "unicode",
        Some(language) => language,
    };
    Cow::Owned(format!("{charset}_{language}_ci"))
}

#[cfg(test)]
mod tests {
    use crate::collation::in_definitions;

    #[test]
    fn of_every_shape() {
        for (collation, expected) in [
            ("utf8mb4_general_ci", "utf8mb4_general_ci"),
            ("utf8mb4_0900_as_cs", "utf8mb4_0900_as_cs"),
            ("utf8mb4_uca1400_ai_ci", "utf8mb4_unicode_ci"),
            ("utf8mb3_uca1400_nopad_as_cs", "utf8mb3_unicode_ci"),
            ("utf8mb4_uca1400_german2_as_ci", "utf8mb4_german2_ci"),
            ("utf8mb4_uca1400_swedish_nopad_ai_cs", "utf8mb4_swedish_ci"),
        ] {
            assert_eq!(in_definitions(collation), expected);
        }
    }
}
