//! Real servers, started by a test in a folder of its own on ports of its own, and killed when the test lets go of them,
//! panicking or not. They come from Debian packages; see [`needs`].

use std::fs::File;
use std::io::Read as _;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;

use rustix::process::{Pid, Signal, kill_process_group};
use tempfile::TempDir;

/// Makes sure that a program is there, from its Debian package if need be. `false`: it is not and cannot be; the test says so
/// and ends.
pub fn needs(package: &str, program: &str) -> bool {
    static INSTALLING: Mutex<()> = Mutex::new(());
    let _one_at_a_time = INSTALLING.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if find(program).is_some() {
        return true;
    }
    if rustix::process::geteuid().is_root() && install(package) && find(program).is_some() {
        return true;
    }
    eprintln!("SKIPPED: {program} is not installed; install the Debian package {package}");
    false
}

fn install(package: &str) -> bool {
    // Packages start their services; here nothing may start on the standard ports.
    let policy = Path::new("/usr/sbin/policy-rc.d");
    let made = !policy.exists();
    if made {
        std::fs::write(policy, "#!/bin/sh\nexit 101\n").expect("policy-rc.d is written");
        std::fs::set_permissions(policy, std::fs::Permissions::from_mode(0o755))
            .expect("and made executable");
    }
    let apt = |arguments: &[&str]| {
        let status = Command::new("apt-get")
            .args(arguments)
            .env("DEBIAN_FRONTEND", "noninteractive")
            .stdout(Stdio::null())
            .status();
        status.is_ok_and(|status| status.success())
    };
    let lock = "DPkg::Lock::Timeout=300";
    let _ = apt(&["-o", lock, "update", "-qq"]);
    let done = apt(&["-o", lock, "install", "-y", "-qq", "--no-install-recommends", package]);
    if made {
        let _ = std::fs::remove_file(policy);
    }
    done
}

/// A program where Debian keeps servers, the highest version first, or in the usual places. (/usr/sbin/rabbitmq-server is a
/// wrapper that becomes another user, who cannot read our folder.)
pub fn find(program: &str) -> Option<PathBuf> {
    let mut folders: Vec<PathBuf> =
        ["/usr/lib/rabbitmq/bin", "/usr/sbin", "/usr/bin"].map(PathBuf::from).to_vec();
    for (root, inner) in [("/usr/lib/postgresql", "bin"), ("/usr/lib/erlang", "bin")] {
        let mut versions: Vec<PathBuf> = std::fs::read_dir(root)
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path().join(inner))
            .collect();
        versions.sort();
        folders.extend(versions.into_iter().rev());
    }
    folders.into_iter().map(|folder| folder.join(program)).find(|path| path.exists())
}

/// A port that was free a moment ago.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address").port()
}

/// A process with all that it starts.
#[derive(Debug)]
struct Group(Child);

impl Group {
    fn start(mut command: Command, log: &Path) -> Group {
        let log = File::options().create(true).append(true).open(log).expect("a log");
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("a handle")).stderr(log).process_group(0);
        Group(command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}")))
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.0.id()).expect("a pid")).expect("not zero");
        let _ = kill_process_group(pid, signal);
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
        let _ = self.0.wait();
    }
}

/// `command`, which the kernel kills when we die, as another user where a server refuses to run as root.
fn leashed(program: &Path, user: Option<&str>) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL"]);
    if let Some(user) = user {
        command.args(["--reuid", user, "--regid", user, "--init-groups"]);
    }
    command.arg("--").arg(program);
    command
}

/// A server that can be killed, stopped and started again on its old port and data.
#[derive(Debug)]
pub struct Server {
    pub port: u16,
    start: fn(&Path, u16) -> Command,
    end: Signal,
    // Ended before its folder goes.
    running: Option<Group>,
    _helper: Option<Group>,
    folder: TempDir,
}

impl Server {
    fn new(folder: TempDir, port: u16, helper: Option<Group>, start: fn(&Path, u16) -> Command) -> Server {
        let mut server = Server { port, start, end: Signal::KILL, running: None, _helper: helper, folder };
        server.start();
        server
    }

    pub fn target(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub fn start(&mut self) {
        self.running =
            Some(Group::start((self.start)(self.folder.path(), self.port), &self.folder.path().join("log")));
    }

    /// At once, without any farewell.
    pub fn kill(&mut self) {
        if let Some(mut group) = self.running.take() {
            group.signal(self.end);
            let _ = group.0.wait();
        }
    }

    /// Stops it in its tracks: it keeps its port and answers nothing.
    pub fn freeze(&self) {
        self.running.as_ref().expect("it runs").signal(Signal::STOP);
    }

    pub fn thaw(&self) {
        self.running.as_ref().expect("it runs").signal(Signal::CONT);
    }

    /// The end of what it wrote, for a test that fails.
    pub fn log(&self) -> String {
        let mut text = String::new();
        let _ =
            File::open(self.folder.path().join("log")).and_then(|mut file| file.read_to_string(&mut text));
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }
}

fn folder() -> TempDir {
    tempfile::Builder::new().prefix("halberd-test-").tempdir().expect("a folder")
}

fn run(mut command: Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// User `canary`, password `canary-password`, schema `halberd_canary`; user `stranger` without rights.
pub fn mariadb() -> Server {
    let folder = folder();
    let data = folder.path().join("data");
    let mut install = Command::new(find("mariadb-install-db").expect("it is there"));
    install.args([
        "--no-defaults",
        "--user=root",
        "--auth-root-authentication-method=normal",
        "--skip-test-db",
    ]);
    install.arg(format!("--datadir={}", data.display()));
    run(install);
    let sql = "CREATE DATABASE IF NOT EXISTS halberd_canary;\n\
               CREATE USER IF NOT EXISTS 'canary'@'%' IDENTIFIED BY 'canary-password';\n\
               GRANT ALL ON halberd_canary.* TO 'canary'@'%';\n\
               CREATE USER IF NOT EXISTS 'stranger'@'%' IDENTIFIED BY 'canary-password';\n\
               CREATE USER IF NOT EXISTS 'boss'@'%' IDENTIFIED BY 'canary-password';\n\
               GRANT ALL ON *.* TO 'boss'@'%';\n";
    std::fs::write(folder.path().join("init.sql"), sql).expect("written");
    Server::new(folder, free_port(), None, |folder, port| {
        let mut command = leashed(&find("mariadbd").expect("it is there"), None);
        let own = |name: &str| folder.join(name).display().to_string();
        command.args([
            "--no-defaults",
            "--user=root",
            "--bind-address=127.0.0.1",
            "--skip-name-resolve",
            "--skip-log-bin",
        ]);
        command.args(["--innodb-buffer-pool-size=32M", "--performance-schema=OFF"]);
        command.arg(format!("--port={port}")).arg(format!("--datadir={}", own("data")));
        command.arg(format!("--socket={}", own("sock"))).arg(format!("--init-file={}", own("init.sql")));
        command
    })
}

/// Who runs PostgreSQL: it refuses root.
fn postgres_user() -> Option<&'static str> {
    rustix::process::geteuid().is_root().then_some("postgres")
}

/// User `canary`, password `canary-password`, database `halberd_canary`.
pub fn postgres() -> Server {
    let folder = folder();
    let port = free_port();
    let (passwords, data) = (folder.path().join("passwords"), folder.path().join("data"));
    std::fs::write(&passwords, "canary-password\n").expect("written");
    if let Some(user) = postgres_user() {
        let mut chown = Command::new("chown");
        chown.arg("-R").arg(user).arg(folder.path());
        run(chown);
    }
    let mut init = leashed(&find("initdb").expect("it is there"), postgres_user());
    init.args(["--username=canary", "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-sync"]);
    init.arg(format!("--pwfile={}", passwords.display())).arg("-D").arg(&data).current_dir(folder.path());
    run(init);
    // The single-user mode makes the database before anything listens.
    let mut create = leashed(&find("postgres").expect("it is there"), postgres_user());
    create.args(["--single", "-D"]).arg(&data).arg("postgres").current_dir(folder.path());
    let mut child =
        create.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts");
    std::io::Write::write_all(&mut child.stdin.take().expect("piped"), b"CREATE DATABASE halberd_canary\n")
        .expect("it reads");
    assert!(child.wait().expect("it ends").success());
    let mut server = Server::new(folder, port, None, |folder, port| {
        let mut command = leashed(&find("postgres").expect("it is there"), postgres_user());
        command.arg("-D").arg(folder.join("data")).arg("-p").arg(port.to_string()).arg("-k").arg(folder);
        command
            .args(["-c", "listen_addresses=127.0.0.1", "-c", "fsync=off", "-c", "shared_buffers=16MB"])
            .current_dir(folder);
        command
    });
    // Its children have groups of their own; a postmaster that is killed leaves them, and with them its shared memory, for a
    // moment in which it cannot start again. SIGQUIT is its immediate shutdown: all die, nothing is tidied up.
    server.end = Signal::QUIT;
    server
}

/// User `canary`, password `canary-password`, virtual host `/`.
pub fn rabbitmq() -> Server {
    let folder = folder();
    let (port, epmd_port) = (free_port(), free_port());
    let settings = format!(
        "listeners.tcp.1 = 127.0.0.1:{port}\ndefault_user = canary\ndefault_pass = canary-password\ndefault_vhost = /\n\
         loopback_users = none\ndisk_free_limit.absolute = 1MB\nvm_memory_high_watermark.absolute = 1GB\n\
         log.console = true\nlog.console.level = warning\nlog.file = false\n"
    );
    std::fs::write(folder.path().join("rabbitmq.conf"), settings).expect("written");
    std::fs::write(folder.path().join("enabled_plugins"), "[].\n").expect("written");
    std::fs::write(folder.path().join("epmd"), epmd_port.to_string()).expect("written");
    std::fs::write(folder.path().join("dist"), free_port().to_string()).expect("written");
    let mut epmd = leashed(&find("epmd").expect("it is there"), None);
    epmd.args(["-port", &epmd_port.to_string(), "-address", "127.0.0.1"]);
    let epmd = Group::start(epmd, &folder.path().join("epmd.log"));
    Server::new(folder, port, Some(epmd), |folder, port| {
        let mut command = leashed(&find("rabbitmq-server").expect("it is there"), None);
        let kept = |name: &str| std::fs::read_to_string(folder.join(name)).expect("written before");
        command.env("HOME", folder).env("ERL_EPMD_PORT", kept("epmd")).env("ERL_EPMD_ADDRESS", "127.0.0.1");
        command
            .env("RABBITMQ_NODENAME", format!("halberd{port}@localhost"))
            .env("RABBITMQ_DIST_PORT", kept("dist"));
        command
            .env("RABBITMQ_CONF_ENV_FILE", "/dev/null")
            .env("RABBITMQ_CONFIG_FILE", folder.join("rabbitmq.conf"));
        command.env("RABBITMQ_ENABLED_PLUGINS_FILE", folder.join("enabled_plugins"));
        command
            .env("RABBITMQ_MNESIA_BASE", folder.join("mnesia"))
            .env("RABBITMQ_LOG_BASE", folder.join("logs"));
        command.env("RABBITMQ_PID_FILE", folder.join("pid"));
        let quiet =
            "+S 2:2 +sbwt none +sbwtdcpu none +sbwtdio none -kernel inet_dist_use_interface {127,0,0,1}";
        command.env("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", quiet);
        command
    })
}

/// Tells the broker something, as an operator does.
pub fn rabbitmqctl(server: &Server, arguments: &[&str]) {
    let folder = server.folder.path();
    let mut command = Command::new(find("rabbitmqctl").expect("it is there"));
    let epmd = std::fs::read_to_string(folder.join("epmd")).expect("written before");
    command.env("HOME", folder).env("ERL_EPMD_PORT", epmd).env("RABBITMQ_CONF_ENV_FILE", "/dev/null");
    command.args(["-n", &format!("halberd{}@localhost", server.port)]).args(arguments);
    run(command);
}

pub fn memcached() -> Server {
    Server::new(folder(), free_port(), None, |_, port| {
        let mut command = leashed(&find("memcached").expect("it is there"), None);
        command.args(["-u", "root", "-l", "127.0.0.1", "-m", "8", "-p", &port.to_string()]);
        command
    })
}
