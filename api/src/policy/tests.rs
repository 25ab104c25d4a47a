//! Expressions and files, with what they must come to.

use std::sync::Arc;

use proptest::prelude::*;

use super::expression::{Check, Unread, parse};
use super::{Policy, PolicyError, file};
use crate::access::{RULES, standing};
use crate::{Caller, RequestId};

/// A caller: `admin`, `project:0f0f`, `user:u-1`, `system` and `operator` among role names.
fn caller(policy: &Policy, words: &str) -> Caller {
    let find =
        |key: &str| words.split_whitespace().find_map(|word| word.strip_prefix(key)).map(str::to_owned);
    let has = |word: &str| words.split_whitespace().any(|own| own == word);
    let roles: Vec<String> = words
        .split_whitespace()
        .filter(|word| !word.contains(':') && !["system", "operator"].contains(word))
        .map(str::to_owned)
        .collect();
    let mut caller = Caller {
        user_id: find("user:"),
        user_name: None,
        project_id: find("project:"),
        system_scope: has("system"),
        standing: standing(&roles, has("system") || has("operator")),
        is_service: has("service"),
        is_admin: false,
        roles,
        policy: Arc::new(policy.clone()),
        request_id: RequestId::new(),
        global_request_id: None,
    };
    caller.is_admin = policy.allows("context_is_admin", &caller);
    caller
}

fn of(text: &str) -> Policy {
    file::read(text, "policy.yaml").unwrap_or_else(|error| panic!("{error}"))
}

fn refused(text: &str) -> PolicyError {
    file::read(text, "policy.yaml").expect_err(text)
}

fn allows(policy: &Policy, rule: &str, words: &str) -> bool {
    caller(policy, words).may(rule).is_ok()
}

const INDEX: &str = "os_masakari_api:segments:index";

#[test]
fn expressions_and_their_verdicts() {
    // (expression, whom it lets in, whom it does not)
    let table: [(&str, &[&str], &[&str]); 34] = [
        ("", &["", "admin"], &[]),
        ("@", &["", "admin"], &[]),
        ("!", &[], &["", "admin", "service"]),
        ("role:ops", &["ops", "OPS x"], &["", "op", "opsx", "admin"]),
        ("role:Ops", &["ops"], &["admin"]),
        ("is_admin:True", &["admin", "Admin"], &["", "member", "administrator"]),
        ("is_admin:true", &["admin"], &["member"]),
        ("is_admin:False", &["member"], &["admin"]),
        ("rule:admin_api", &["admin"], &["member"]),
        ("rule:default", &["admin"], &["member"]),
        ("role:a or role:b", &["a", "b", "a b"], &["", "c"]),
        ("role:a and role:b", &["a b"], &["a", "b", ""]),
        ("not role:a", &["", "b"], &["a", "a b"]),
        ("not not role:a", &["a"], &["b"]),
        // `and` before `or`, whatever stands first.
        ("role:a or role:b and role:c", &["a", "b c"], &["b", "c"]),
        ("role:b and role:c or role:a", &["a", "b c"], &["b", "c"]),
        ("role:a and role:b or role:c and role:d", &["a b", "c d"], &["a c", "a d", "b c"]),
        ("role:a or role:b and role:c or role:d", &["a", "d", "b c"], &["b", "c"]),
        ("(role:a or role:b) and role:c", &["a c", "b c"], &["a", "b", "c"]),
        ("( role:a or role:b ) and role:c", &["a c"], &["a"]),
        ("((role:a))", &["a"], &["b"]),
        // `not` before `and`.
        ("not role:a and role:b", &["b"], &["a b", ""]),
        ("not (role:a and role:b)", &["a", "b", ""], &["a b"]),
        ("role:a AND NOT role:b Or role:c", &["a", "c"], &["a b"]),
        ("role:a\n  or\trole:b", &["a", "b"], &["c"]),
        ("project_id:0f0f", &["project:0f0f"], &["", "project:1a1a", "admin"]),
        ("user_id:u-1 and role:a", &["user:u-1 a"], &["user:u-1", "user:u-2 a"]),
        ("role:reader and system_scope:all", &["reader system"], &["reader", "system"]),
        ("system_scope:some", &[], &["system", ""]),
        // Nobody owns anything here: it never grants, its opposite neither.
        ("project_id:%(project_id)s", &[], &["", "project:0f0f", "admin"]),
        ("not project_id:%(project_id)s", &[], &["", "project:0f0f", "admin"]),
        ("not (role:a and user_id:%(target.user_id)s)", &["b"], &["a", "user:u-1 a"]),
        ("(rule:admin_or_owner)", &["admin"], &["project:0f0f", "member"]),
        ("project_id:%(project_id)s or (role:a)", &["a"], &["project:0f0f"]),
    ];
    for (text, lets_in, keeps_out) in table {
        let policy = of(&format!("{INDEX:?}: {text:?}"));
        for words in lets_in {
            assert!(allows(&policy, INDEX, words), "{text:?} lets {words:?} in");
        }
        for words in keeps_out {
            assert!(!allows(&policy, INDEX, words), "{text:?} keeps {words:?} out");
        }
    }
}

#[test]
fn what_is_no_expression() {
    let check = |text: &str| Unread::Check(text.to_owned());
    let no_check = |found: &str| Unread::NoCheck { found: found.to_owned() };
    let no_end = |found: &str| Unread::NoEnd { found: found.to_owned() };
    let table = [
        ("admin", check("admin")),
        ("role:", check("role:")),
        ("roles:admin", check("roles:admin")),
        ("Role:admin", check("Role:admin")),
        ("role:%(role)s", check("role:%(role)s")),
        ("rule:%(rule)s", check("rule:%(rule)s")),
        ("is_admin:1", check("is_admin:1")),
        ("http://example.org/%(x)s", check("http://example.org/%(x)s")),
        ("token.project.id:x", check("token.project.id:x")),
        ("'admin':%(target.role.name)s", check("'admin':%(target.role.name)s")),
        ("\"role:admin\"", check("\"role:admin\"")),
        ("'role:admin'", Unread::Check("'role:admin'".into())),
        ("   ", no_check("the end")),
        ("role:a or", no_check("the end")),
        ("or role:a", no_check("\"or\"")),
        ("role:a and or role:b", no_check("\"or\"")),
        ("not", no_check("the end")),
        ("()", no_check("\")\"")),
        ("(role:a", Unread::Open),
        ("role:a)", no_end("\")\"")),
        ("role:a role:b", no_end("\"role:b\"")),
        ("role:a not role:b", no_end("\"not\"")),
        ("(role:a (role:b", no_end("\"(\"")),
    ];
    for (text, want) in table {
        assert_eq!(parse(text), Err(want), "{text:?}");
    }
    let deep = |n: usize| format!("{}role:a{}", "(".repeat(n), ")".repeat(n));
    assert_eq!(parse(&deep(15)), Ok(Check::Role("a".into())));
    for text in [deep(100_000), "not ".repeat(100_000) + "@"] {
        assert_eq!(parse(&text), Err(Unread::TooDeep));
    }
}

#[test]
fn a_file_overrides_what_it_names_and_nothing_else() {
    let policy = of(&format!("{INDEX:?}: role:ha_reader\n# comment\n'halberd:hosts:fence': \"!\"\n"));
    assert!(allows(&policy, INDEX, "ha_reader") && !allows(&policy, INDEX, "admin"));
    assert!(!allows(&policy, "halberd:hosts:fence", "admin"));
    let silent = Policy::default();
    for (rule, _) in RULES.iter().filter(|(rule, _)| ![INDEX, "halberd:hosts:fence"].contains(rule)) {
        for words in
            ["admin", "manager operator", "member operator", "reader system", "service", "manager", ""]
        {
            assert_eq!(allows(&policy, rule, words), allows(&silent, rule, words), "{rule} {words}");
        }
        assert!(allows(&silent, rule, "admin"), "{rule}");
    }
    assert!(!allows(&silent, "halberd:hosts:explode", "manager system"), "what no rule names needs admin");
    assert!(allows(&silent, "halberd:hosts:explode", "admin"));
}

#[test]
fn defaults_follow_the_files_idea_of_an_administrator() {
    let create = "os_masakari_api:segments:create";
    let policy = of("context_is_admin: role:cloud_admin");
    for rule in [INDEX, create, "halberd:hosts:fence"] {
        assert!(allows(&policy, rule, "cloud_admin") && !allows(&policy, rule, "admin"), "{rule}");
    }
    assert!(allows(&policy, create, "manager operator"), "standings go on beside it");
    let policy = of("admin_api: 'is_admin:True or rule:ha_ops'\nha_ops: role:ha_ops\n");
    assert!(
        allows(&policy, create, "ha_ops")
            && allows(&policy, create, "admin")
            && !allows(&policy, create, "x")
    );
    assert_eq!(policy.warnings(), [] as [&str; 0], "a rule that another refers to is no slip");
}

#[test]
fn files_as_they_are_in_the_field() {
    let sample = "# Decides what is required for the 'is_admin:True' check to succeed.\n#\"context_is_admin\": \"role:admin\"\n\n";
    for text in ["", sample, "{}", "---\n", "{\"context_is_admin\": \"role:admin\"}"] {
        let policy = of(text);
        assert_eq!((policy.rules == Policy::default().rules, policy.warnings().len()), (true, 0), "{text}");
    }
    let lists =
        of(&format!("{INDEX:?}: [[\"role:a\", \"role:b\"], \"role:c\", [\"is_admin:True\"]]\ndefault: []"));
    for (words, may) in [("a b", true), ("c", true), ("admin", true), ("a", false), ("", false)] {
        assert_eq!(allows(&lists, INDEX, words), may, "{words}");
    }
    assert!(
        Policy::load(std::path::Path::new("/nowhere/policy.yaml"))
            .unwrap_err()
            .to_string()
            .contains("/nowhere/")
    );
}

#[test]
fn what_cannot_stand_is_named_with_file_and_rule() {
    let table = [
        ("a: [", "no YAML"),
        ("- a\n- b", "rule names"),
        ("just text", "rule names"),
        ("a: 'role:x'\na: '@'", "duplicate"),
        ("1: 'role:x'", "must be text"),
        ("a:", "rule \"a\": its expression must be text"),
        ("a: true", "rule \"a\": its expression must be text"),
        ("a: 'roll:admin'", "rule \"a\": the check \"roll:admin\" is not known; understood are role:NAME"),
        ("a: [[]]", "rule \"a\": an empty list"),
        ("a: [[['role:x']]]", "rule \"a\": a list's checks"),
        ("a: ['role:x or role:y']", "rule \"a\": "),
        ("a: 'rule:admin_apo'", "refers to \"admin_apo\", which is nowhere; did you mean \"admin_api\"?"),
        ("a: 'rule:zzzzzzzzzz'", "refers to \"zzzzzzzzzz\", which is nowhere"),
        ("a: 'rule:a'", "circle: a -> a"),
        ("a: 'rule:b'\nb: 'not rule:c'\nc: '@ and (rule:a or !)'", "circle: a -> b -> c -> a"),
        ("context_is_admin: 'is_admin:True'", "circle: context_is_admin -> context_is_admin"),
        ("context_is_admin: 'rule:admin_api'", "circle: admin_api -> context_is_admin -> admin_api"),
        ("admin_api: 'rule:halberd:hosts:fence'", "circle: admin_api -> halberd:hosts:fence -> admin_api"),
    ];
    for (text, says) in table {
        let error = refused(text).to_string();
        assert!(error.contains(says) && error.contains("policy.yaml"), "{text:?}: {error}");
    }
    // Ten rules, each twice the next: a thousand checks.
    let doubled: String = (0..10).map(|n| format!("r{n}: 'rule:r{0} or rule:r{0}'\n", n + 1)).collect();
    assert!(matches!(refused(&format!("{doubled}r10: '@'")), PolicyError::TooMuch { .. }));
    // Long chains, and one that is just long enough.
    let good: String = (0..29).map(|n| format!("r{n}: 'rule:r{}'\n", n + 1)).collect();
    assert!(allows(&of(&format!("{good}r29: '@'")), "r0", ""));
    let chain: String = (0..5000).map(|n| format!("r{n:04}: 'rule:r{:04}'\n", n + 1)).collect();
    assert!(matches!(refused(&format!("{chain}r5000: '@'")), PolicyError::TooMuch { .. }));
}

#[test]
fn what_an_operator_should_look_at_is_said() {
    let table = [
        ("os_masakari_api:segment:index: '@'", &["did you mean \"os_masakari_api:segments:index\""][..]),
        ("something_else: '@'", &["\"something_else\" is none of this service's"]),
        ("halberd:hosts:fence: 'role:ops'", &["\"halberd:hosts:fence\" is an administrator's by default"]),
        ("os_masakari_api:segments:index: 'rule:admin_or_owner'", &[]),
        ("admin_or_owner: 'not project_id:%(project_id)s'", &["\"admin_or_owner\" compares with the thing"]),
        ("os_masakari_api:segments:delete: '@'", &[]),
    ];
    for (text, says) in table {
        let policy = of(text);
        assert_eq!(policy.warnings().len(), says.len(), "{text}: {:?}", policy.warnings());
        for (warning, said) in policy.warnings().iter().zip(says) {
            assert!(warning.contains(said), "{text}: {warning}");
        }
    }
}

/// Words that expressions are made of, in any order.
fn words() -> impl Strategy<Value = String> {
    let word = prop::sample::select(vec![
        "(",
        ")",
        "and",
        "or",
        "not",
        "NOT",
        "@",
        "!",
        "role:a",
        "role:b",
        "is_admin:True",
        "rule:admin_api",
        "project_id:%(project_id)s",
        "user_id:u",
        "(role:a",
        "role:b)",
        "))",
        "((",
        ":",
        "x",
        "\"",
        "'role:a'",
    ]);
    prop::collection::vec(word, 0..24).prop_map(|words| words.join(" "))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_text_panics(text in any::<String>()) {
        let _ = parse(&text);
        let _ = file::read(&text, "policy.yaml");
    }

    /// What is read lets in whom plain logic lets in, however it is nested.
    #[test]
    fn words_in_any_order_are_read_or_refused(text in words()) {
        if let Ok(check) = parse(&text) {
            let policy = Policy::default();
            let who = caller(&policy, "a");
            let opposite = Check::Not(Box::new(check.clone()));
            let (yes, no) = (policy.verdict(&check, &who), policy.verdict(&opposite, &who));
            prop_assert_eq!(yes.map(|yes| !yes), no);
            let parentheses = format!("( {text} )");
            if !text.is_empty() {
                prop_assert_eq!(parse(&parentheses), Ok(check));
            }
        }
    }
}
