//! Real programs and a real receiver. Nothing here waits for a time: what is waited for is said or done by the other side.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use halberd_core::effect::Done;
use halberd_core::hook::{About, HookCall, HookReport, OnFailure, Point};
use halberd_core::id::{HostId, NotificationId, RecoveryId, SegmentId};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::mpsc;
use uuid::Uuid;

use super::{HookConfig, Hooks, check};

fn section(value: Value) -> HookConfig {
    serde_json::from_value(value).expect("a section")
}

fn call(timeout_s: u64) -> HookCall {
    HookCall {
        run: Uuid::from_u128(0x1234),
        hook: "h".into(),
        at: Point::Pre,
        attempt: 2,
        timeout_s,
        about: About {
            recovery: RecoveryId(Uuid::from_u128(1)),
            kind: "host".into(),
            host: "cmp-01; rm -rf $HOME `id`".into(),
            host_id: HostId(Uuid::from_u128(2)),
            instance: None,
            process: None,
            segment: SegmentId(Uuid::from_u128(3)),
            notification: NotificationId(Uuid::from_u128(4)),
            outcome: None,
        },
    }
}

/// A folder with a script in it, and the hook that runs it.
struct Script {
    folder: TempDir,
    hooks: Hooks,
}

impl Script {
    fn new(text: &str) -> Script {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hook");
        // Read by a shell that was there before: a file just written may still be open for writing in a child of another test.
        std::fs::write(&path, format!("{text}\n")).unwrap();
        let command = json!(["/bin/sh", path, folder.path(), "two words", "$HOME"]);
        let hooks =
            Hooks::new(&[section(json!({"name": "h", "at": ["pre"], "command": command}))]).expect("good");
        Script { folder, hooks }
    }

    async fn run(&self, timeout_s: u64) -> HookReport {
        match self.hooks.run(&call(timeout_s), std::future::pending()).await {
            Done::Hook { report } => report,
            other => panic!("{other:?}"),
        }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

/// Whether a process is there and not merely waited for by nobody.
fn runs(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
    stat.rsplit(") ").next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with(['Z', 'X']))
}

/// Waits until something is so, as long as it takes.
async fn until(what: impl Fn() -> bool) {
    while !what() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn it_is_told_and_no_shell_reads_it() {
    let script = Script::new(
        "env | sort > $1/env; cat > $1/stdin; printf '%s|' \"$@\" > $1/args; pwd > $1/pwd; echo well",
    );
    let report = script.run(30).await;
    assert!(report.ok, "{report:?}");
    assert_eq!((report.how.as_str(), report.stdout.as_str()), ("exit 0", "well\n"));
    let read = |name: &str| std::fs::read_to_string(script.file(name)).unwrap();
    let env = read("env");
    let names: Vec<&str> =
        env.lines().filter_map(|line| line.split_once('=')).map(|(name, _)| name).collect();
    let own = ["_", "OLDPWD", "PWD", "SHLVL", "LANG", "PATH"];
    assert!(names.iter().all(|name| name.starts_with("HALBERD_") || own.contains(name)), "{env}");
    for line in [
        "HALBERD_HOOK=h",
        "HALBERD_HOOK_RUN=00000000-0000-0000-0000-000000001234",
        "HALBERD_STAGE=pre",
        "HALBERD_ATTEMPT=2",
        "HALBERD_RECOVERY=00000000-0000-0000-0000-000000000001",
        "HALBERD_RECOVERY_KIND=host",
        "HALBERD_HOST=cmp-01; rm -rf $HOME `id`",
        "HALBERD_SEGMENT_UUID=00000000-0000-0000-0000-000000000003",
        "HALBERD_NOTIFICATION_UUID=00000000-0000-0000-0000-000000000004",
    ] {
        assert!(env.lines().any(|given| given == line), "{line} is not in\n{env}");
    }
    assert!(!env.contains("HALBERD_OUTCOME") && !env.contains("HALBERD_INSTANCE"), "{env}");
    let told: Value = serde_json::from_str(&read("stdin")).unwrap();
    assert_eq!((&told["stage"], &told["host"]), (&json!("pre"), &json!("cmp-01; rm -rf $HOME `id`")));
    assert!(read("args").ends_with("|two words|$HOME|"), "{}", read("args"));
    assert_eq!(read("pwd"), "/\n");
}

#[tokio::test]
async fn another_end_than_zero_is_a_failure_with_its_words() {
    let report = Script::new("echo out; echo 'no such volume' >&2; exit 3").run(30).await;
    assert!(!report.ok);
    assert_eq!((report.how.as_str(), report.stdout.as_str()), ("exit 3", "out\n"));
    assert_eq!(report.stderr, "no such volume\n");
    let report = Script::new("kill -9 $$").run(30).await;
    assert_eq!((report.ok, report.how.as_str()), (false, "killed by signal 9"));
}

#[tokio::test]
async fn a_program_that_is_gone_is_a_failure() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("hook");
    std::fs::write(&path, "").unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    let section = section(json!({"name": "h", "at": ["pre"], "command": [path]}));
    let hooks = Hooks::new(&[section]).expect("good");
    std::fs::remove_file(&path).unwrap();
    let Done::Hook { report } = hooks.run(&call(30), std::future::pending()).await else {
        panic!("no report")
    };
    assert!(!report.ok && report.how.contains("cannot be started"), "{report:?}");
}

#[tokio::test]
async fn the_end_of_a_flood_is_kept_and_nobody_is_stopped_by_it() {
    let report = Script::new(
        "i=0; while [ $i -lt 40000 ]; do echo 0123456789; i=$((i+1)); done; printf 'last\\033[31m'",
    )
    .run(60)
    .await;
    assert!(report.ok, "{report:?}");
    assert!(report.stdout.len() < 4_200 && report.stdout.starts_with("[...]"), "{}", report.stdout.len());
    assert!(report.stdout.ends_with("last\u{fffd}[31m"), "{}", &report.stdout[4_000..]);
}

/// The script, and what it started, are in one group and end together.
#[tokio::test]
async fn its_time_ends_it_with_all_it_started() {
    let script = Script::new("sleep 1000 & echo $! > $1/child; echo $$ > $1/self; echo begun; wait");
    let report = script.run(1).await;
    assert!(!report.ok && report.how.starts_with("no end within 1 s"), "{report:?}");
    assert_eq!(report.stdout, "begun\n", "what it said until then is kept");
    for name in ["self", "child"] {
        let pid = std::fs::read_to_string(script.file(name)).unwrap();
        until(|| !runs(&pid)).await;
    }
}

#[tokio::test]
async fn it_is_asked_to_end_before_it_is_made_to() {
    let script =
        Script::new("trap 'echo cleaned > $1/cleaned; exit 0' TERM; trap_ready=1; sleep 1000 & wait");
    let report = script.run(1).await;
    assert!(!report.ok, "its time was over, whatever it says then: {report:?}");
    assert!(script.file("cleaned").exists());
    // One that does not listen is made to end.
    let deaf = Script::new("trap '' TERM; echo $$ > $1/self; while :; do sleep 1000; done");
    assert!(!deaf.run(1).await.ok);
    let pid = std::fs::read_to_string(deaf.file("self")).unwrap();
    until(|| !runs(&pid)).await;
}

#[tokio::test]
async fn what_it_leaves_behind_does_not_hold_the_recovery() {
    let script = Script::new("sleep 1000 & echo $! > $1/child; exit 0");
    let report = script.run(300).await;
    assert!(report.ok, "{report:?}");
    let pid = std::fs::read_to_string(script.file("child")).unwrap();
    until(|| !runs(&pid)).await;
}

/// The engine's stop, a lost lease, a closed recovery: the run ends at once, with its group.
#[tokio::test]
async fn what_nobody_waits_for_is_ended() {
    let script = Script::new("sleep 1000 & echo $! > $1/child; echo $$ > $1/self; wait");
    let (self_, child) = (script.file("self"), script.file("child"));
    let unwanted = async {
        until(|| self_.exists() && std::fs::read_to_string(&self_).is_ok_and(|pid| pid.ends_with('\n')))
            .await;
        "cut off".to_owned()
    };
    let done = script.hooks.run(&call(600), unwanted).await;
    assert_eq!(done, Done::Unknown { text: "cut off".into() });
    for file in [self_.clone(), child] {
        let pid = std::fs::read_to_string(file).unwrap();
        until(|| !runs(&pid)).await;
    }
}

#[tokio::test]
async fn one_that_is_no_longer_configured_is_gone() {
    let done = Hooks::default().run(&call(30), std::future::pending()).await;
    assert!(matches!(done, Done::Gone { .. }), "{done:?}");
}

/// A receiver: answers with the status in its path, or never, and hands over what it was sent.
async fn receiver() -> (String, mpsc::UnboundedReceiver<(HeaderMap, Bytes)>) {
    let (sent, got) = mpsc::unbounded_channel();
    let answer = move |path: axum::extract::Path<u16>, headers: HeaderMap, body: Bytes| {
        let sent = sent.clone();
        async move {
            let _ = sent.send((headers, body));
            if path.0 == 0 {
                std::future::pending::<()>().await;
            }
            let location = [("location", "http://127.0.0.1:9/")];
            (StatusCode::from_u16(path.0).unwrap(), location, "token-abc was not liked")
        }
    };
    let app = Router::new().route("/{status}", post(answer));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await });
    (url, got)
}

async fn posted(url: &str, status: u16, timeout_s: u64, extra: Value) -> HookReport {
    let mut all =
        json!({"name": "h", "at": ["pre"], "url": format!("{url}/{status}"), "timeout_s": timeout_s});
    for (key, value) in extra.as_object().unwrap() {
        all[key] = value.clone();
    }
    let hooks = Hooks::new(&[section(all)]).expect("good");
    match hooks.run(&call(timeout_s), std::future::pending()).await {
        Done::Hook { report } => report,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_post_is_signed_and_tells_repeats_by_the_run() {
    let (url, mut got) = receiver().await;
    let folder = tempfile::tempdir().unwrap();
    let (secret, token) = (folder.path().join("secret"), folder.path().join("token"));
    std::fs::write(&secret, "whsec_c2VjcmV0LWtleS1vZi1hdC1sZWFzdC0yNC1ieXRlcw==").unwrap();
    std::fs::write(&token, "Bearer token-abc").unwrap();
    let extra = json!({"secret_file": secret, "headers": {"Authorization": {"file": token}}});
    let report = posted(&url, 204, 30, extra.clone()).await;
    assert!(report.ok, "{report:?}");
    let (headers, body) = got.recv().await.unwrap();
    assert_eq!(headers["webhook-id"], "00000000-0000-0000-0000-000000001234");
    assert_eq!(headers["authorization"], "Bearer token-abc");
    assert!(headers["webhook-signature"].to_str().unwrap().starts_with("v1,"));
    let told: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(
        (&told["hook_run"], &told["attempt"]),
        (&json!("00000000-0000-0000-0000-000000001234"), &json!(2))
    );
    // What it says against it is kept, without the secret that it repeats.
    let report = posted(&url, 500, 30, extra).await;
    assert!(!report.ok && report.how.contains("500") && report.how.contains("was not liked"), "{report:?}");
    assert!(!report.how.contains("token-abc"), "{report:?}");
}

#[tokio::test]
async fn only_2xx_in_time_is_well() {
    let (url, _got) = receiver().await;
    let report = posted(&url, 302, 30, json!({})).await;
    assert!(!report.ok && report.how.contains("redirects are not followed"), "{report:?}");
    let report = posted(&url, 0, 1, json!({})).await;
    assert!(!report.ok && report.how.contains("timed out"), "{report:?}");
    let report = posted("http://127.0.0.1:1", 200, 5, json!({})).await;
    assert!(!report.ok, "{report:?}");
}

#[test]
fn a_section_that_cannot_be_used_is_named_with_what_to_do() {
    let sh = json!(["/bin/sh"]);
    let with = |key: &str, value: Value| {
        let mut all = json!({"name": "h", "at": ["pre"], "command": sh});
        all[key] = value;
        section(all)
    };
    let both = |value: Value| with("url", value);
    for (bad, words) in [
        (with("name", json!("")), &["name it in 1 to 60"][..]),
        (with("name", json!("a b")), &["'a b'", "letters"]),
        (with("at", json!([])), &["'h'", "at is empty", "pre, main, post"]),
        (with("at", json!(["before"])), &["'h'", "at: 'before'", "pre, main, post"]),
        (with("at", json!(["pre", "pre"])), &["twice"]),
        (with("recoveries", json!(["guest"])), &["'guest'", "host, instance, process"]),
        (with("recoveries", json!([])), &["leave it out"]),
        (with("timeout_s", json!(0)), &["timeout_s is 0", "1 to 600"]),
        (with("timeout_s", json!(601)), &["timeout_s is 601"]),
        (with("attempts", json!(4)), &["attempts is 4", "1 to 3"]),
        (with("on_failure", json!("fail")), &["continue, hold", "no hook can end a recovery"]),
        (with("command", json!(["bin/sh"])), &["'bin/sh' is no absolute path"]),
        (with("command", json!([])), &["neither command nor url"]),
        (with("secret_file", json!("/x")), &["secret_file", "for a url"]),
        (both(json!("http://a/")), &["both command and url"]),
    ] {
        let error = check(&[bad]).expect_err(words[0]).to_string();
        assert!(words.iter().all(|word| error.contains(word)), "{words:?}: {error}");
        assert!(error.starts_with("[[hooks]] '"), "{error}");
    }
    let ftp = section(json!({"name": "h", "at": ["pre"], "url": "ftp://a/"}));
    assert!(check(&[ftp]).expect_err("ftp").to_string().contains("http or https"));
    let two = [with("at", json!(["pre"])), with("at", json!(["post"]))];
    assert!(check(&two).expect_err("two").to_string().contains("two of this name"));
}

#[test]
fn a_program_is_looked_at_before_it_is_needed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("hook");
    let start = || {
        let section = section(json!({"name": "h", "at": ["pre"], "command": [path]}));
        check(std::slice::from_ref(&section)).expect("good as far as it goes");
        Hooks::new(&[section]).map(|_| ()).map_err(|error| error.to_string())
    };
    assert!(start().expect_err("missing").contains("put it there"));
    std::fs::write(&path, "#!/bin/sh\n").unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    assert!(start().expect_err("not executable").contains("chmod 755"));
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    start().expect("good");
    let secret =
        section(json!({"name": "h", "at": ["pre"], "url": "http://a/", "secret_file": "/nowhere/secret"}));
    let error = Hooks::new(&[secret]).expect_err("no secret").to_string();
    assert!(error.contains("[[hooks]] 'h'") && error.contains("/nowhere/secret"), "{error}");
}

#[test]
fn each_kind_of_recovery_has_its_own_in_order() {
    let one = |name: &str, kinds: Value| {
        let all = json!({"name": name, "at": ["post", "pre"], "recoveries": kinds, "command": ["/bin/sh"], "on_failure": "hold"});
        section(all)
    };
    let hooks = Hooks::new(&[
        one("c", json!(["host"])),
        one("b", json!(["instance", "host"])),
        section(json!({"name": "a", "at": ["main"], "command": ["/bin/sh"]})),
    ])
    .expect("good");
    let names = |kind: &str| {
        hooks.for_kind(kind).apply.iter().map(|spec| spec.name.clone()).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(
        (names("host"), names("instance"), names("process")),
        ("c b a".into(), "b a".into(), "a".into())
    );
    assert_eq!(names("return"), "");
    let first = hooks.for_kind("host").apply[0].clone();
    assert_eq!((first.timeout_s, first.attempts, first.on_failure), (30, 1, OnFailure::Hold));
}
