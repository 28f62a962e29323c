//! Which versions of the programs go together.

/// Whether two programs of these versions do not go together: more than one minor version is between them. What one
/// says and the other does not know is within one version something that may be left aside. Somebody's own build says
/// what it likes.
pub fn too_far(one: &str, other: &str) -> bool {
    let minor = |version: &str| -> Option<(u32, u32)> {
        let mut parts = version.split('.');
        Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
    };
    match (minor(one), minor(other)) {
        (Some((major, ours)), Some((others, theirs))) => major != others || ours.abs_diff(theirs) > 1,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_minor_version_may_be_between_the_two() {
        for (one, other, good) in [
            ("1.2.3", "1.2.9", true),
            ("1.2.3", "1.3.0", true),
            ("1.2.3", "1.1.0", true),
            ("1.2.3", "1.4.0", false),
            ("1.2.3", "2.2.3", false),
            ("1.2.3", "test", true),
            ("1.2.3", "", true),
        ] {
            assert_eq!(too_far(one, other), !good, "{one} {other}");
        }
    }
}
