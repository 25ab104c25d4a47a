//! Against small scripts that behave as agents do, and as they should not.

use std::path::PathBuf;

use rand::Rng;
use serde_json::{Value, json};

use super::*;
use crate::FenceDevices;
use crate::fuzz::{bytes, fuzz, mutated, pick, presentable, text};

const METADATA: &str = r#"<?xml version="1.0" ?>
<resource-agent name="fence_fake" shortdesc="a > b" >
<parameters>
<parameter name="action" unique="0" required="1"><content type="string" default="reboot"  /></parameter>
<parameter name="ip" unique="0" required="1" obsoletes="ipaddr"><content type="string"  /></parameter>
<parameter name="ipaddr" unique="0" required="1" deprecated="1"><content type="string"  /></parameter>
<parameter name="ipport" unique="0"><content type="integer" default="23"  /></parameter>
<parameter name="username" unique="0" required="1"><content type="string"  /></parameter>
<parameter name="password" unique="0" required="0"><content type="string"  /></parameter>
<parameter name="cmd_prompt"><content type="string" default="[&apos;&gt;&apos;, '>']"  /></parameter>
<parameter name="plug" unique="0" required="1" obsoletes="port"><content type="string"  /></parameter>
<parameter name="ssl"><content type="boolean"  /></parameter>
<parameter name="power_timeout"><content type="second" default="20"  /></parameter>
<parameter name="method"><content type="select" default="onoff"  ><option value="onoff" /><option value="cycle" /></content></parameter>
</parameters>
<actions><action name="on" automatic="0"/><action name="off" /><action name="status" /><action name="metadata" /></actions>
</resource-agent>
"#;

/// A folder with an agent that tells this metadata and otherwise runs the script, its parameters in `$words`.
pub(crate) fn installed(name: &str, metadata: &str, script: &str) -> PathBuf {
    let dir = std::env::temp_dir().join(format!("halberd-agent-{}-{name}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let program = dir.join("fence_fake");
    let text = format!(
        "#!/bin/sh\nwords=$(cat)\ncd {}\ncase $words in action=metadata*) cat metadata; exit 0 ;; esac\n{script}\n",
        dir.display()
    );
    std::fs::write(dir.join("metadata"), metadata).unwrap();
    // Written by another process: a descriptor of ours, open for writing, could be inherited by a fork of another
    // test at that moment, and the kernel would refuse to run the file (ETXTBSY).
    std::fs::write(dir.join("text"), text).unwrap();
    let mut install = std::process::Command::new("install");
    assert!(install.args(["-m", "755"]).arg(dir.join("text")).arg(&program).status().unwrap().success());
    program
}

fn described(program: &std::path::Path, options: Value, limits: Limits) -> Agent {
    let json = json!({"levels": [{"devices": [{"type": "agent", "address": "pdu.example:2323",
        "username": "u", "password": "s3cret", "program": program, "options": options}]}]});
    let device = FenceDevices::parse(&json.to_string()).unwrap().levels[0].devices[0].clone();
    Agent::new(&device, &limits)
}

fn agent(script: &str, name: &str) -> Agent {
    let limits = Limits { request: Duration::from_secs(20), ..Limits::default() };
    described(&installed(name, METADATA, script), json!({"plug": "4"}), limits)
}

fn seen(agent: &Agent, file: &str) -> String {
    std::fs::read_to_string(PathBuf::from(agent.program()).with_file_name(file)).unwrap_or_default()
}

#[tokio::test]
async fn parameters_go_over_stdin_and_nowhere_else() {
    let agent =
        agent(r#"echo "$words" > seen; echo "$*" > args; env > env; cat /proc/$$/cmdline > line"#, "stdin");
    assert_eq!(agent.open().await.unwrap().off().await, Ok(Answer::Accepted));
    let lines = "action=off\nip=pdu.example\nipport=2323\nusername=u\npassword=s3cret\nplug=4\n";
    assert_eq!(seen(&agent, "seen"), lines);
    assert_eq!(seen(&agent, "args").trim(), "");
    for file in ["env", "line"] {
        assert!(!seen(&agent, file).is_empty() && !seen(&agent, file).contains("s3cret"), "{file}");
    }
    assert!(!format!("{agent:?}").contains("s3cret"));
}

#[tokio::test]
async fn an_agent_with_older_names_gets_those() {
    let old = METADATA
        .replace("name=\"ip\"", "name=\"other\"")
        .replace("name=\"username\"", "name=\"login\"")
        .replace("name=\"password\"", "name=\"passwd\"");
    let program = installed("older", &old, r#"echo "$words" > seen"#);
    let agent = described(&program, json!({"plug": "4"}), Limits::default());
    agent.open().await.unwrap().off().await.unwrap();
    let lines = "action=off\nipaddr=pdu.example\nipport=2323\nlogin=u\npasswd=s3cret\nplug=4\n";
    assert_eq!(seen(&agent, "seen"), lines);
}

#[tokio::test]
async fn what_the_agent_does_not_know_is_refused_before_it_runs() {
    let cases = [
        (json!({"plugg": "4"}), "no option \"plugg\"; did you mean \"plug\"?"),
        (json!({"plug": "4", "power-timout": "9"}), "did you mean \"power_timeout\"?"),
        (json!({"plug": "4", "zzzzzzzz": "9"}), "no option \"zzzzzzzz\"; remove it"),
        (json!({"plug": "4", "ssl": "maybe"}), "option \"ssl\" takes 1 or 0"),
        (json!({"plug": "4", "power_timeout": "soon"}), "takes a number"),
        (json!({"plug": "4", "method": "toggle"}), "takes one of onoff, cycle"),
    ];
    let program = installed("unknown", METADATA, "echo ran > seen");
    for (options, says) in cases {
        let agent = described(&program, options.clone(), Limits::default());
        let error = agent.open().await.err().expect("it was to be refused");
        assert!(matches!(error, FenceError::Config { .. }) && error.is_final(), "{error}");
        assert!(error.to_string().contains(says), "{options}: {error}");
        assert_eq!(seen(&agent, "seen"), "");
    }
    let good = json!({"plug": "4", "ssl": "1", "power-timeout": "9", "method": "cycle"});
    let agent = described(&program, good, Limits::default());
    let findings = agent.open().await.unwrap().inspect().await.unwrap();
    assert!(findings.faults.is_empty() && findings.warnings.is_empty(), "{findings:?}");
    let agent = described(&program, json!({}), Limits::default());
    let warnings = agent.open().await.unwrap().inspect().await.unwrap().warnings.join("\n");
    assert!(warnings.contains("asks for plug too"), "{warnings}");
}

#[tokio::test]
async fn an_agent_without_off_or_status_cannot_fence() {
    for action in ["off", "status"] {
        let metadata = METADATA.replace(&format!("<action name=\"{action}\" />"), "");
        let agent =
            described(&installed(&format!("no-{action}"), &metadata, ""), json!({}), Limits::default());
        let error = agent.open().await.err().unwrap();
        assert!(
            matches!(&error, FenceError::NotOffered { detail, .. } if detail.contains(action)),
            "{error}"
        );
    }
}

/// No metadata is a warning while all is well, and no obstacle when it matters.
#[tokio::test]
async fn an_agent_that_says_nothing_of_itself_is_used_all_the_same() {
    let program = installed("wordless", "usage: fence_fake", "exit 0");
    let agent = described(&program, json!({"whatever": "1"}), Limits::default());
    let mut session = agent.open().await.unwrap();
    assert_eq!(session.off().await, Ok(Answer::Accepted));
    let warnings = session.inspect().await.unwrap().warnings.join("\n");
    assert!(warnings.contains("cannot be checked"), "{warnings}");
    let absent = described("/nonexistent/fence_x".as_ref(), json!({}), Limits::default());
    let error = absent.open().await.err().unwrap();
    assert!(
        matches!(&error, FenceError::Config { detail, .. } if detail.contains("/nonexistent/fence_x")),
        "{error}"
    );
}

/// However often it ran before: what anybody may write to now is not run now.
#[tokio::test]
async fn a_program_that_others_may_write_to_is_not_run() {
    let agent = agent("echo ran > seen; exit 0", "writable");
    let mut session = agent.open().await.unwrap();
    let file = PathBuf::from(agent.program());
    let mode = |mode| std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(mode));
    mode(0o757).unwrap();
    for error in [session.off().await.unwrap_err(), session.read().await.unwrap_err()] {
        assert!(matches!(&error, FenceError::Config { .. }) && error.is_final(), "{error}");
        let (text, file) = (error.to_string(), file.display().to_string());
        assert!(text.contains(&file) && text.contains("mode 0757") && text.contains("chmod go-w"), "{text}");
    }
    assert_eq!(seen(&agent, "seen"), "");
    mode(0o755).unwrap();
    assert_eq!((session.off().await, seen(&agent, "seen").as_str()), (Ok(Answer::Accepted), "ran\n"));
}

#[tokio::test]
async fn a_changed_agent_is_known_after_a_check() {
    let program = installed("changed", METADATA, "");
    let agent = described(&program, json!({"plug": "4"}), Limits::default());
    let mut session = agent.open().await.unwrap();
    std::fs::write(program.with_file_name("metadata"), METADATA.replace("\"plug\"", "\"outlet\"")).unwrap();
    assert!(agent.open().await.is_ok(), "not asked at each act");
    assert!(session.inspect().await.unwrap().faults[0].contains("no option \"plug\""));
    assert!(agent.open().await.is_err());
}

#[tokio::test]
async fn off_needs_the_code_and_the_word() {
    let read = async |script: &str, name: &str| agent(script, name).open().await.unwrap().read().await;
    assert_eq!(read("echo 'Status: OFF'; exit 2", "off").await, Ok(PowerState::Off));
    assert_eq!(read("echo 'Status: ON'; exit 0", "on").await, Ok(PowerState::On));
    let bad = read("echo 'Failed: You have to enter plug' >&2; exit 2", "args").await;
    assert!(matches!(bad, Err(FenceError::Config { .. })), "{bad:?}");
    assert!(read("echo 'Status: OFF'; exit 0", "odd").await.is_err());
    assert!(read("printf 'Status: ON\\nStatus: OFF\\n'; exit 2", "both").await.is_err());
    assert!(read("echo 'Status: OFF'; kill -KILL $$", "killed").await.is_err());
}

#[tokio::test]
async fn exit_codes_have_their_meaning() {
    let table = [
        (1, "failed without a reason"),
        (2, "arguments are missing"),
        (3, "credentials"),
        (4, "not reachable"),
        (5, "no answer"),
        (6, "busy"),
        (7, "busy"),
        (8, "busy"),
        (10, "password is missing"),
        (11, "privilege"),
        (9, "busy"),
        (77, "failed without a reason"),
    ];
    for (code, is) in table {
        let error = agent(&format!("exit {code}"), &format!("code{code}")).order("off").await.unwrap_err();
        assert!(error.to_string().contains(is), "{code}: {error}");
    }
    let killed = agent("kill -KILL $$", "signal").order("off").await.unwrap_err();
    assert!(killed.is_unknown() && killed.to_string().contains("killed by a signal"), "{killed}");
}

/// True while a process runs (a zombie does not).
fn runs(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
    stat.rsplit(')')
        .next()
        .is_some_and(|rest| !rest.trim().is_empty() && !rest.trim().starts_with(['Z', 'X']))
}

/// What an agent started is killed with it, at the deadline and when the caller turns away.
#[tokio::test]
async fn the_whole_group_dies_at_the_deadline() {
    let script = "sh -c 'echo $$ > child; exec sleep 3600' & while [ ! -s child ]; do :; done; echo 1 > seen; sleep 3600";
    let mut agent = agent(script, "group");
    agent.limits.level = Duration::from_secs(3600);
    // It is started, and dropped once its child runs.
    {
        let off = agent.order("off");
        let started = async {
            while seen(&agent, "seen").is_empty() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::select! { done = off => panic!("{done:?}"), () = started => {} }
    }
    let dead = async |pid: String| {
        assert!(!pid.is_empty());
        while runs(&pid) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), dead(seen(&agent, "child"))).await.expect("it lives on");
    // The same at the deadline, which has to be long enough for the child to start on a busy machine.
    std::fs::write(PathBuf::from(agent.program()).with_file_name("child"), "").unwrap();
    agent.limits.level = Duration::from_secs(2);
    let error = agent.order("off").await.unwrap_err();
    assert!(matches!(&error, FenceError::Killed { action, .. } if action == "off"), "{error}");
    tokio::time::timeout(Duration::from_secs(60), dead(seen(&agent, "child"))).await.expect("it lives on");
}

#[tokio::test]
async fn endless_output_is_not_kept() {
    let script =
        "head -c 30000000 /dev/zero | tr '\\0' x; head -c 30000000 /dev/zero >&2; echo 'Status: OFF'; exit 2";
    let output = agent(script, "endless").run("status").await.unwrap();
    assert_eq!((output.stdout.len(), output.status.code()), (1 << 20, Some(2)));
}

#[test]
fn fuzz_outputs_and_metadata() {
    let words = [
        "Status: OFF",
        "Status: ON",
        "status: off",
        "OFF",
        "Status:",
        "\n",
        " ",
        "\0",
        "\u{e9}",
        "STATUS: OFF ",
    ];
    fuzz("fence-agents' output", |rng| {
        let mut out: Vec<u8> =
            (0..rng.random_range(0..5)).flat_map(|_| pick::<&str>(rng, &words).bytes()).collect();
        if rng.random_bool(0.3) {
            out = mutated(rng, &out);
        }
        let code = *pick(rng, &[None, Some(0), Some(1), Some(2), Some(-1), Some(255)]);
        if state(code, &out) == Some(PowerState::Off) {
            let text = String::from_utf8_lossy(&out).to_lowercase();
            assert!(
                code == Some(2)
                    && text.contains("status: off")
                    && !text.lines().any(|l| l.trim() == "status: on")
            );
        }
        let xml = match rng.random_range(0..4) {
            0 => bytes(rng, 4_096),
            1 => text(rng).into_bytes(),
            _ => mutated(rng, METADATA.as_bytes()),
        };
        if let Some(metadata) = Metadata::parse(&xml) {
            let (key, value) = (text(rng), text(rng));
            if let Some(why) = metadata.refuses([(key.as_str(), value.as_str()), ("plug", "1")]) {
                let error = FenceError::Config { device: "agent".to_owned(), detail: clip(&why) };
                presentable(&error);
            }
            assert!(metadata.missing(&[&key]).len() <= metadata.parameters.len());
        }
    });
}

/// The agents that are installed here, if any: all that can switch off and on are understood.
#[tokio::test]
async fn real_agents_are_understood() {
    for name in ["fence_apc", "fence_ipmilan", "fence_redfish", "fence_virsh", "fence_dummy"] {
        let program = PathBuf::from("/usr/sbin").join(name);
        if !program.exists() {
            println!("{name} is not installed: skipped");
            continue;
        }
        let limits = Limits { request: Duration::from_secs(60), ..Limits::default() };
        let metadata = described(&program, json!({}), limits).learn().await.unwrap();
        assert!(
            metadata.actions.iter().any(|a| a == "off") && metadata.parameters.contains_key("power_timeout"),
            "{name}"
        );
        assert!(metadata.refuses([("power_timout", "1")]).unwrap().contains("\"power_timeout\""), "{name}");
    }
}
