//! Is a process there? Asked of `/proc`, exactly: the original looks for the name anywhere in the output of `ps`, so an
//! editor with the process' log open counts as the process.
//!
//! A pattern is a name (`nova-compute`), a path (`/usr/sbin/libvirtd`), or either followed by words of the command line. A name fits the last part of
//! the program's path, the kernel's name for it, or the script an interpreter runs; a path fits whole, or by its last part
//! when the command line shows only a name.

use std::path::Path;

/// Programs whose first plain argument is the program that a person means.
const INTERPRETERS: [&str; 8] = ["python", "perl", "ruby", "bash", "sh", "dash", "node", "env"];
/// The kernel cuts a process' name to so many bytes.
const COMM_MAX: usize = 15;

/// A living process, as far as matching needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Process id.
    pub pid: u32,
    /// The kernel's name, at most 15 bytes.
    pub comm: String,
    /// Command line; empty for kernel threads.
    pub argv: Vec<String>,
}

/// All living processes; zombies are dead. Errors: `proc` cannot be listed.
pub fn processes(proc: &Path) -> std::io::Result<Vec<Process>> {
    let pids = std::fs::read_dir(proc)?.filter_map(|e| e.ok()?.file_name().to_str()?.parse().ok());
    Ok(pids.filter_map(|pid| process(proc, pid)).collect())
}

/// One process; `None` when it is gone or going.
fn process(proc: &Path, pid: u32) -> Option<Process> {
    let dir = proc.join(pid.to_string());
    let stat = std::fs::read_to_string(dir.join("stat")).ok()?;
    // `pid (comm) S ...`; comm may contain anything, brackets too.
    let (comm, rest) = (stat.find('(')?, stat.rfind(')')?);
    let state = stat.get(rest + 2..rest + 3)?;
    if matches!(state, "Z" | "X" | "x") {
        return None;
    }
    let cmdline = std::fs::read(dir.join("cmdline")).ok()?;
    let argv = cmdline
        .split(|b| *b == 0)
        .map(|a| String::from_utf8_lossy(a).into_owned())
        .filter(|a| !a.is_empty())
        .collect();
    Some(Process { pid, comm: stat.get(comm + 1..rest)?.to_owned(), argv })
}

/// Does the process fit the pattern?
pub fn fits(pattern: &str, process: &Process) -> bool {
    let mut words = pattern.split_ascii_whitespace();
    let Some(program) = words.next() else { return false };
    let arguments: Vec<&str> = words.collect();
    let argv: Vec<&str> = match &process.argv[..] {
        // A process that renamed itself has one string for all its words.
        [title] => title.split_ascii_whitespace().collect(),
        argv => argv.iter().map(String::as_str).collect(),
    };
    let Some(first) = argv.first() else { return false };
    let at = if is_interpreter(first) {
        argv.iter().skip(1).position(|a| !a.starts_with('-')).map(|p| p + 1)
    } else {
        None
    };
    let starts = [Some(0), at];
    let by_line = starts.into_iter().flatten().any(|i| {
        let rest = &argv[i + 1..];
        fits_program(program, argv[i])
            && (arguments.is_empty() || rest.windows(arguments.len()).any(|w| w == arguments))
    });
    by_line || (arguments.is_empty() && fits_comm(program, process, argv[at.unwrap_or(0)]))
}

fn fits_program(pattern: &str, program: &str) -> bool {
    // `nova-compute: worker` is how some name themselves.
    let program = program.strip_suffix(':').unwrap_or(program);
    match (pattern.contains('/'), program.contains('/')) {
        (true, true) => pattern == program,
        _ => base(pattern) == base(program),
    }
}

/// The kernel's name is cut and carries no path: it counts only where the command line shows no path that says otherwise,
/// and never an interpreter's own name for its script.
fn fits_comm(pattern: &str, process: &Process, shown: &str) -> bool {
    if pattern.contains('/') && shown.contains('/') && !is_interpreter(shown) {
        return false;
    }
    if is_interpreter(&process.comm) {
        return false;
    }
    let name = base(pattern);
    if name.len() <= COMM_MAX {
        process.comm == name
    } else {
        name.as_bytes()[..COMM_MAX] == *process.comm.as_bytes()
    }
}

fn is_interpreter(program: &str) -> bool {
    let name = base(program).trim_end_matches(|c: char| c.is_ascii_digit() || c == '.');
    INTERPRETERS.contains(&name)
}

fn base(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn p(comm: &str, argv: &[&str]) -> Process {
        Process { pid: 1, comm: comm.into(), argv: argv.iter().map(|a| (*a).to_owned()).collect() }
    }

    #[test]
    fn names_and_paths_as_users_write_them() {
        let libvirtd = p("libvirtd", &["/usr/sbin/libvirtd", "--listen"]);
        assert!(fits("libvirtd", &libvirtd));
        assert!(fits("/usr/sbin/libvirtd", &libvirtd));
        assert!(fits("/usr/sbin/libvirtd --listen", &libvirtd));
        assert!(!fits("/usr/local/sbin/libvirtd", &libvirtd));
        assert!(!fits("libvirtd --other", &libvirtd));
        assert!(!fits("libvirt", &libvirtd), "a part of a name is another name");
        let bare = p("libvirtd", &["libvirtd"]);
        assert!(fits("/usr/sbin/libvirtd", &bare), "the line shows no path to disagree with");
    }

    #[test]
    fn scripts_under_an_interpreter() {
        let nova =
            p("nova-compute", &["/usr/bin/python3.11", "/usr/bin/nova-compute", "--config-file", "/etc/n"]);
        assert!(fits("nova-compute", &nova));
        assert!(fits("/usr/bin/nova-compute", &nova));
        assert!(fits("/usr/bin/nova-compute --config-file /etc/n", &nova));
        assert!(fits("/usr/bin/python3.11 /usr/bin/nova-compute", &nova));
        assert!(!fits("/opt/nova/bin/nova-compute", &nova), "the line shows another path");
        let flags = p("python3", &["python3", "-u", "/opt/x/agent.py"]);
        assert!(fits("agent.py", &flags));
    }

    #[test]
    fn who_merely_mentions_a_process_is_not_it() {
        assert!(!fits("nova-compute", &p("vim", &["vim", "/etc/nova/nova-compute.conf"])));
        assert!(!fits("nova-compute", &p("tail", &["tail", "-f", "nova-compute"])));
        assert!(!fits("nova-compute", &p("grep", &["grep", "nova-compute"])));
        assert!(!fits("nova-compute", &p("bash", &["bash", "-c", "sleep 1; nova-compute"])));
        assert!(!fits("nova-compute", &p("kworker/0", &[])));
    }

    #[test]
    fn long_names_and_titles() {
        let agent = p("neutron-openvsw", &["/usr/bin/python3", "-m", "x"]);
        assert!(fits("neutron-openvswitch-agent", &agent));
        assert!(!fits("neutron-openvsx-agent", &agent));
        assert!(fits("neutron-server", &p("x", &["neutron-server: api worker (/usr/bin/python3)"])));
    }

    #[test]
    fn a_killed_child_is_gone_even_before_it_is_reaped() {
        let mut child = std::process::Command::new("sleep").arg("86399").spawn().unwrap();
        let there = || {
            processes(Path::new("/proc"))
                .unwrap()
                .iter()
                .any(|p| p.pid == child.id() && fits("sleep 86399", p))
        };
        // Between fork and exec it is still a copy of this test.
        while !there() {
            std::thread::yield_now();
        }
        rustix::process::kill_process(
            rustix::process::Pid::from_child(&child),
            rustix::process::Signal::KILL,
        )
        .unwrap();
        while there() {
            std::thread::yield_now();
        }
        child.wait().unwrap();
    }
}
