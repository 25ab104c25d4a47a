//! Values: booleans, text, times and uuids.

use serde_json::{Value, json};

use crate::v1::value::{self, Timestamp};

#[test]
fn booleans_in_bodies() {
    for word in ["True", "TRUE", "true", "1", "ON", "On", "on", "YES", "Yes", "yes"] {
        assert_eq!(value::boolean(&json!(word)), Ok(true), "{word}");
    }
    for word in ["False", "FALSE", "false", "0", "OFF", "Off", "off", "NO", "No", "no"] {
        assert_eq!(value::boolean(&json!(word)), Ok(false), "{word}");
    }
    assert_eq!((value::boolean(&json!(true)), value::boolean(&json!(false))), (Ok(true), Ok(false)));
    for bad in [
        json!(1),
        json!(0),
        json!(null),
        json!("t"),
        json!("y"),
        json!("tRUE"),
        json!("oN"),
        json!(""),
        json!(" true"),
        json!([]),
        json!({}),
    ] {
        assert!(value::boolean(&bad).is_err(), "{bad}");
    }
}

#[test]
fn booleans_in_queries() {
    for word in ["1", "t", "true", "on", "y", "yes", "True", "YES", " on "] {
        assert_eq!(value::query_boolean(word), Ok(true), "{word}");
    }
    for word in ["0", "f", "false", "off", "n", "no", "False", "NO"] {
        assert_eq!(value::query_boolean(word), Ok(false), "{word}");
    }
    for bad in ["", "2", "maybe", "truee", "null"] {
        assert!(value::query_boolean(bad).is_err(), "{bad}");
    }
}

#[test]
fn names() {
    let longest = "n".repeat(255);
    for good in ["a", "seg 1", "Größe", "日本語", "a\u{3000}b", "-", longest.as_str(), &"é".repeat(255)]
    {
        assert_eq!(value::name(&json!(good)).as_deref(), Ok(good));
    }
    let too_long = "n".repeat(256);
    for bad in [
        "",
        " ",
        " a",
        "a ",
        "\u{a0}a",
        "a\u{3000}",
        "a\nb",
        "a\n",
        "a\tb",
        "a\u{0}",
        "a\u{7f}",
        "a\u{200b}b",
        "a\u{202e}b",
        "a\u{2028}b",
        "emoji \u{1f600}",
        "\u{10400}",
        "\u{ffff}",
        "\u{e000}",
        too_long.as_str(),
    ] {
        assert!(value::name(&json!(bad)).is_err(), "{bad:?}");
    }
    for bad in [json!(null), json!(1), json!(true), json!(["a"]), json!({})] {
        assert!(value::name(&bad).is_err(), "{bad}");
    }
}

#[test]
fn descriptions_types_and_hostnames() {
    for good in ["", "a\nb", "\n", " a ", &"d".repeat(70_000)] {
        assert!(value::description(&json!(good)).is_ok(), "{good:?}");
    }
    for bad in [json!("a\tb"), json!("a\r\n"), json!("\u{1f600}"), json!(1), json!(null)] {
        assert!(value::description(&bad).is_err(), "{bad}");
    }
    assert_eq!(value::nullable_description(&Value::Null), Ok(None));

    for (text, good) in [
        ("", true),
        ("COMPUTE1", true),
        (&"x".repeat(255), true),
        (&"x".repeat(256), false),
        ("a b", false),
        ("a-b", false),
        ("é", false),
        ("a\n", false),
    ] {
        assert_eq!(value::host_type(&json!(text)).is_ok(), good, "{text:?}");
    }
    assert!(value::host_type(&Value::Null).is_err());

    for (text, good) in [
        ("cmp-01.example_x", true),
        ("-", true),
        (&"h".repeat(255), true),
        (&"h".repeat(256), false),
        ("", false),
        ("a b", false),
        ("a:b", false),
        ("é", false),
        ("a\n", false),
    ] {
        assert_eq!(value::hostname(&json!(text)).is_ok(), good, "{text:?}");
    }
}

#[test]
fn times_in_as_the_original_reads_them() {
    let table = [
        ("2026-11-21", "2026-11-21T00:00:00.000000"),
        ("2026", "2026-01-01T00:00:00.000000"),
        ("2026-11", "2026-11-01T00:00:00.000000"),
        ("20261121", "2026-11-21T00:00:00.000000"),
        ("2026-1-2", "2026-01-02T00:00:00.000000"),
        ("2026-1121", "2026-11-21T00:00:00.000000"),
        ("202611-21", "2026-11-21T00:00:00.000000"),
        ("2026-11-21T10", "2026-11-21T10:00:00.000000"),
        ("2026-11-21T10:20", "2026-11-21T10:20:00.000000"),
        ("2026-11-21T1020", "2026-11-21T10:20:00.000000"),
        ("2026-11-21T10:20:30", "2026-11-21T10:20:30.000000"),
        ("2026-11-21T102030", "2026-11-21T10:20:30.000000"),
        ("20261121T102030Z", "2026-11-21T10:20:30.000000"),
        ("2026-11-21 10:20:30", "2026-11-21T10:20:30.000000"),
        ("2026-11-21T10:20:30Z", "2026-11-21T10:20:30.000000"),
        ("2026-11-21T10:20:30.5", "2026-11-21T10:20:30.500000"),
        ("2026-11-21T10:20:30,5", "2026-11-21T10:20:30.500000"),
        ("2026-11-21T10:20:30.123456789", "2026-11-21T10:20:30.123456"),
        ("2026-11-21T10:20:30.9999999", "2026-11-21T10:20:30.999999"),
        ("2026-11-21T10:20:30+01:00", "2026-11-21T09:20:30.000000"),
        ("2026-11-21T10:20:30+0100", "2026-11-21T09:20:30.000000"),
        ("2026-11-21T10:20:30+01", "2026-11-21T09:20:30.000000"),
        ("2026-11-21T10:20:30-05:30", "2026-11-21T15:50:30.000000"),
        ("2026-11-21T10:20:30-00:00", "2026-11-21T10:20:30.000000"),
        ("2026-11-21T10Z", "2026-11-21T10:00:00.000000"),
        ("2026-11-21T10:20:3", "2026-11-21T10:20:03.000000"),
        ("0001-01-01", "0001-01-01T00:00:00.000000"),
        ("9999-12-31", "9999-12-31T00:00:00.000000"),
    ];
    for (text, want) in table {
        assert_eq!(value::timestamp(&json!(text)).map(|t| t.to_string()).as_deref(), Ok(want), "{text}");
    }
    for bad in [
        "",
        "garbage",
        "1700000000",
        "202611",
        "26-11-21",
        " 2026-11-21",
        "2026-11-21 ",
        "2026-11-21T",
        "2026-11-21Z",
        "2026-11-21t10:20:30",
        "2026-11-21T10:20:30z",
        "2026-11-21T10:20:30.",
        "2026-11-21T10:20:30 +01:00",
        "2026-11-21T10:20:30+1",
        "2026-11-21T24:00:00",
        "2026-11-21T23:59:60",
        "2026-11-21T10:60:00",
        "2026-13-01",
        "2026-02-30",
        "2026-00-10",
        "0000-01-01",
        "0001-01-01T00:00:00+01:00",
        "9999-12-31T23:59:59-01:00",
        "2026-W01-1",
        "2026-11-21T10:20:30+25:00",
        "２０２６-11-21",
    ] {
        assert!(value::timestamp(&json!(bad)).is_err(), "{bad:?}");
    }
    for bad in [json!(1_700_000_000), json!(null), json!(true)] {
        assert!(value::timestamp(&bad).is_err(), "{bad}");
    }
}

#[test]
fn times_out_have_six_digits_and_no_zone() {
    let time = Timestamp::from_micros(1_795_256_430_000_000).expect("a time");
    assert_eq!(serde_json::to_value(time).expect("json"), "2026-11-21T10:20:30.000000");
    let fine = Timestamp::new(chrono::DateTime::from_timestamp_nanos(1_795_256_430_000_123_999));
    assert_eq!(
        (fine.to_string().as_str(), fine.micros()),
        ("2026-11-21T10:20:30.000123", 1_795_256_430_000_123)
    );
}

#[test]
fn uuids() {
    let id = "6e9b1c5e-0d0b-4a9f-8f4e-0123456789ab";
    for good in [
        id,
        "6e9b1c5e0d0b4a9f8f4e0123456789ab",
        "{6e9b1c5e-0d0b-4a9f-8f4e-0123456789ab}",
        "urn:uuid:6e9b1c5e-0d0b-4a9f-8f4e-0123456789ab",
        "6E9B1C5E-0D0B-4A9F-8F4E-0123456789AB",
    ] {
        assert_eq!(value::uuid_like(&json!(good)).map(|u| u.to_string()).as_deref(), Ok(id), "{good}");
    }
    for bad in [
        json!(""),
        json!("vm-1"),
        json!("6e9b1c5e-0d0b-4a9f-8f4e-0123456789a"),
        json!("6e9b1c5e-0d0b-4a9f-8f4e-0123456789ag"),
        json!(1),
    ] {
        assert!(value::uuid_like(&bad).is_err(), "{bad}");
    }
    assert!(value::path_uuid(id).is_some());
    for not_found in [
        "",
        "new",
        "6e9b1c5e0d0b4a9f8f4e0123456789ab",
        "{6e9b1c5e0d0b4a9f8f4e0123456789ab}",
        "6e9b1c5e-0d0b-4a9f-8f4e-0123456789ag",
    ] {
        assert_eq!(value::path_uuid(not_found), None, "{not_found}");
    }
}
