//! Private database servers for tests: started once per process, each test in a database of its own.
//!
//! A test process can end in any way, also by SIGKILL. So a janitor, a shell that does nothing but read from a pipe whose other end
//! only we hold, kills the servers and removes their folder as soon as that end is closed; the kernel closes it for the dead.

use std::fs::File;
use std::io::Write as _;
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use sqlx::mysql::MySqlConnectOptions;
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, Connection, MySqlConnection, PgConnection};
use tempfile::TempDir;

use crate::db::Options;
use crate::durability::Durability;
use crate::{Access, Db, Result, migrate};

/// With this set to 1 a missing server is a failure and no skip.
pub const REQUIRE: &str = "HALBERD_REQUIRE_DATABASES";

/// After this long a server that has not started never will.
const PATIENCE: Duration = Duration::from_secs(120);

/// The user of both servers, and its password.
pub const USER: &str = "halberd";
pub const PASSWORD: &str = "canary-password";

/// Which database a test runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum On {
    Sqlite,
    Postgres,
    Mariadb,
}

/// All three.
pub const EVERY: [On; 3] = [On::Sqlite, On::Postgres, On::Mariadb];

/// A database of a test's own; it goes when this is dropped (a server's with the server).
#[derive(Debug)]
pub struct Own {
    pub url: String,
    pub on: On,
    dir: TempDir,
}

impl Own {
    /// A folder that lives as long; SQLite's file is `halberd.db` in it.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Opens it once more, as another process would.
    ///
    /// # Errors
    /// As [`Db::open_with`].
    pub async fn open(&self, access: Access) -> Result<Db> {
        Db::open_with(&self.url, relaxed(access)).await
    }
}

/// What tests open with: servers that forget are welcome, and a process' many tests share the server's connections.
pub fn relaxed(access: Access) -> Options {
    Options {
        durability: Durability::Relaxed,
        connections: 8,
        acquire: Duration::from_secs(30),
        ..Options::new(access)
    }
}

impl On {
    /// A database of the test's own with its schema. `None`: the server is not installed; the test says so and ends.
    pub async fn own(self) -> Option<Own> {
        let own = self.empty().await?;
        if self != On::Sqlite {
            migrate::migrate(&own.url).await.expect("an empty database is migrated");
        }
        Some(own)
    }

    /// A database of the test's own with nothing in it.
    pub async fn empty(self) -> Option<Own> {
        let dir = TempDir::new().expect("a folder");
        let url = match self {
            On::Sqlite => format!("sqlite:{}", dir.path().join("halberd.db").display()),
            On::Postgres | On::Mariadb => self.server()?.create().await,
        };
        Some(Own { url, on: self, dir })
    }

    /// This process' server; `None`: it is not installed.
    pub fn server(self) -> Option<&'static Server> {
        static POSTGRES: OnceLock<Option<Server>> = OnceLock::new();
        static MARIADB: OnceLock<Option<Server>> = OnceLock::new();
        match self {
            On::Sqlite => None,
            On::Postgres => POSTGRES.get_or_init(|| Server::new(Kind::Postgres, &[])).as_ref(),
            On::Mariadb => MARIADB.get_or_init(|| Server::new(Kind::Mariadb, &[])).as_ref(),
        }
    }
}

/// Which server's program is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Postgres,
    Mariadb,
}

/// A server in a folder of its own on a port of its own.
#[derive(Debug)]
pub struct Server {
    pub kind: Kind,
    pub port: u16,
    folder: PathBuf,
    settings: Vec<String>,
    running: Mutex<Option<Child>>,
    databases: AtomicU64,
    /// Its standard input: closed, it cleans up. Never read, only held.
    _janitor: Child,
}

/// A Galera cluster of MariaDB servers on this machine, the first node first. `None`: it is not installed.
pub fn galera(nodes: usize) -> Option<Vec<Server>> {
    galera_with(nodes, &[])
}

/// The same with settings besides (`name=value`).
pub fn galera_with(nodes: usize, more: &[&str]) -> Option<Vec<Server>> {
    let library = ["/usr/lib/galera/libgalera_smm.so", "/usr/lib64/galera-4/libgalera_smm.so"];
    let Some(library) = library.into_iter().find(|path| Path::new(path).exists()) else {
        let required = std::env::var(REQUIRE).is_ok_and(|value| value == "1");
        assert!(!required, "Galera is not installed and {REQUIRE}=1; install the Debian package galera-4");
        eprintln!("SKIPPED: Galera is not installed; install the Debian packages galera-4 and rsync");
        return None;
    };
    let group: Vec<u16> = (0..nodes).map(|_| free_port()).collect();
    let join: Vec<String> = group.iter().map(|port| format!("127.0.0.1:{port}")).collect();
    let node = |n: usize| {
        let (own, shift) = (group[n], [free_port(), free_port()]);
        let mut settings = vec![
            "wsrep-on=ON".to_owned(),
            format!("wsrep-provider={library}"),
            "wsrep-cluster-name=halberd".to_owned(),
            format!("wsrep-cluster-address=gcomm://{}", join.join(",")),
            "wsrep-node-address=127.0.0.1".to_owned(),
            format!("wsrep-node-name=node{n}"),
            "wsrep-sst-method=rsync".to_owned(),
            format!("wsrep-sst-receive-address=127.0.0.1:{}", shift[0]),
            // A node that is cut off is given up after seconds, not after its default quarter of a minute.
            format!(
                "wsrep-provider-options=gmcast.listen_addr=tcp://127.0.0.1:{own};ist.recv_addr=127.0.0.1:{};gcache.size=16M;\
                 evs.keepalive_period=PT0.5S;evs.inactive_check_period=PT0.5S;evs.suspect_timeout=PT2S;evs.inactive_timeout=PT4S;\
                 evs.install_timeout=PT4S",
                shift[1]
            ),
            "binlog-format=ROW".to_owned(),
            "innodb-autoinc-lock-mode=2".to_owned(),
        ];
        settings.extend(more.iter().map(|setting| (*setting).to_owned()));
        if n == 0 {
            settings.push("wsrep-new-cluster".to_owned());
        }
        let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
        Server::new(Kind::Mariadb, &settings)
    };
    (0..nodes).map(node).collect()
}

/// A program where Debian keeps it, the highest version first, or in the usual places.
pub fn find(program: &str) -> Option<PathBuf> {
    let mut folders: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .map(|version| version.path().join("bin"))
        .collect();
    folders.sort();
    folders.reverse();
    folders.extend(["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin"].map(PathBuf::from));
    folders.into_iter().map(|folder| folder.join(program)).find(|path| path.exists())
}

impl Server {
    /// Starts one with settings besides the fast and forgetful ones of tests (`name=value`). `None`: it is not installed.
    pub fn new(kind: Kind, settings: &[&str]) -> Option<Server> {
        let (program, package) = match kind {
            Kind::Postgres => ("initdb", "postgresql"),
            Kind::Mariadb => ("mariadbd", "mariadb-server"),
        };
        if find(program).is_none() {
            let required = std::env::var(REQUIRE).is_ok_and(|value| value == "1");
            assert!(
                !required,
                "{program} is not installed and {REQUIRE}=1; install the Debian package {package}"
            );
            eprintln!("SKIPPED: {program} is not installed; install the Debian package {package}");
            return None;
        }
        let folder = tempfile::Builder::new().prefix("halberd-server-").tempdir().expect("a folder").keep();
        // On QUIT a postmaster ends at once and takes its children along; what is left of a group is killed. A dying server may still write.
        let clean = "cat > /dev/null; for pid in $(cat \"$1\"/*.pids 2> /dev/null); do kill -QUIT \"$pid\" 2> /dev/null; \
                     kill -KILL -- \"-$pid\" 2> /dev/null; done; \
                     for n in 1 2 3 4 5; do rm -rf \"$1\" 2> /dev/null && break; sleep 1; done";
        let mut janitor = Command::new("sh");
        janitor.args(["-c", clean, "janitor"]).arg(&folder).stdin(Stdio::piped()).stdout(Stdio::null());
        let _janitor = janitor.process_group(0).spawn().expect("a shell");
        let server = Server {
            kind,
            port: free_port(),
            folder,
            settings: settings.iter().map(|setting| format!("--{setting}")).collect(),
            running: Mutex::new(None),
            databases: AtomicU64::new(0),
            _janitor,
        };
        match kind {
            Kind::Postgres => server.init_postgres(),
            Kind::Mariadb => server.init_mariadb(),
        }
        server.start();
        Some(server)
    }

    /// `scheme://user:password@address/database`.
    pub fn url(&self, database: &str) -> String {
        let scheme = match self.kind {
            Kind::Postgres => "postgres",
            Kind::Mariadb => "mysql",
        };
        format!("{scheme}://{USER}:{PASSWORD}@127.0.0.1:{}/{database}", self.port)
    }

    /// The server's own files are in `data`; a test may put others beside it.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Starts its program, on its old port and data, and returns once it answers.
    pub fn start(&self) {
        let mut command = match self.kind {
            Kind::Postgres => self.postgres(),
            Kind::Mariadb => self.mariadb(),
        };
        let log = File::options().create(true).append(true).open(self.folder.join("log")).expect("a log");
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("a handle")).stderr(log).process_group(0);
        let child = command.spawn().expect("it starts");
        let pids = File::create(self.folder.join("own.pids"));
        writeln!(pids.expect("a file"), "{}", child.id()).expect("written");
        *self.running.lock().unwrap_or_else(PoisonError::into_inner) = Some(child);
        let started = Instant::now();
        while !self.answers() {
            let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
            let gone = running.as_mut().is_none_or(|child| !matches!(child.try_wait(), Ok(None)));
            drop(running);
            assert!(!gone && started.elapsed() < PATIENCE, "it never answered\n{}", self.log());
            pause();
        }
    }

    /// Whether it lets somebody in; asked with its own client, so that no runtime of ours is needed.
    fn answers(&self) -> bool {
        let mut command = match self.kind {
            Kind::Postgres => {
                let mut command = Command::new(find("psql").expect("it comes with the server"));
                command.arg(self.url("postgres")).args(["-c", "SELECT 1"]);
                command
            }
            Kind::Mariadb => {
                let mut command = Command::new(find("mariadb").expect("it comes with the server"));
                command.args([
                    "--no-defaults",
                    "--protocol=tcp",
                    "-h",
                    "127.0.0.1",
                    "-u",
                    USER,
                    "-e",
                    "SELECT 1",
                ]);
                command.arg(format!("-p{PASSWORD}")).arg(format!("-P{}", self.port));
                command
            }
        };
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|s| s.success())
    }

    /// At once, without any farewell.
    pub fn kill(&self) {
        if let Some(mut child) = self.running.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // PostgreSQL's immediate shutdown; a postmaster that is killed leaves children, and with them its shared memory.
            signal(&child, if self.kind == Kind::Postgres { "QUIT" } else { "KILL" });
            let _ = child.wait();
        }
    }

    /// Stops it in its tracks: it keeps its port and answers nothing.
    pub fn freeze(&self) {
        self.to_all("STOP");
        // A signal is sent sooner than it is obeyed, and threads obey one by one.
        let id = self.running.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(Child::id);
        let started = Instant::now();
        while !id.is_none_or(stands_still) {
            assert!(started.elapsed() < PATIENCE, "it does not stop");
            pause();
        }
    }

    pub fn thaw(&self) {
        self.to_all("CONT");
    }

    /// Kills it while it is frozen: it answers nothing that it was asked meanwhile.
    pub fn thaw_by_death(&self) {
        self.to_all("KILL");
        if let Some(mut child) = self.running.lock().unwrap_or_else(PoisonError::into_inner).take() {
            let _ = child.wait();
        }
    }

    /// To the process and those that it started: PostgreSQL's have groups of their own.
    fn to_all(&self, name: &str) {
        if let Some(child) = self.running.lock().unwrap_or_else(PoisonError::into_inner).as_ref() {
            // Children first: a parent that dies leaves them to somebody else.
            let parent = child.id().to_string();
            let _ = Command::new("pkill").args([&format!("-{name}"), "-P", &parent]).status();
            signal(child, name);
        }
    }

    /// The end of what it wrote, for a test that fails.
    pub fn log(&self) -> String {
        let text = std::fs::read(self.folder.join("log")).unwrap_or_default();
        let text = String::from_utf8_lossy(&text).into_owned();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }

    /// Makes an empty database; the answer is its URL.
    pub async fn create(&self) -> String {
        let name = format!("own{}", self.databases.fetch_add(1, Ordering::Relaxed));
        let sql = AssertSqlSafe(format!("CREATE DATABASE {name}"));
        match self.kind {
            Kind::Postgres => {
                let options: PgConnectOptions = self.url("postgres").parse().expect("our own URL");
                let mut connection = PgConnection::connect_with(&options).await.expect("it answers");
                sqlx::raw_sql(sql).execute(&mut connection).await.expect("it is made");
            }
            Kind::Mariadb => {
                let options: MySqlConnectOptions = self.url("mysql").parse().expect("our own URL");
                let mut connection = MySqlConnection::connect_with(&options).await.expect("it answers");
                sqlx::raw_sql(sql).execute(&mut connection).await.expect("it is made");
            }
        }
        self.url(&name)
    }

    fn init_postgres(&self) {
        let passwords = self.folder.join("passwords");
        std::fs::write(&passwords, PASSWORD).expect("written");
        if let Some(user) = postgres_user() {
            run(Command::new("chown").arg("-R").arg(user).arg(&self.folder));
        }
        let mut init = as_postgres("initdb");
        // Another collation than ours: what sorts must say how.
        init.args(["--auth=scram-sha-256", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync"])
            .arg(format!("--username={USER}"));
        init.arg(format!("--pwfile={}", passwords.display())).arg("-D").arg(self.folder.join("data"));
        run(init.current_dir(&self.folder));
    }

    fn postgres(&self) -> Command {
        let mut command = as_postgres("postgres");
        command.arg("-D").arg(self.folder.join("data")).arg("-p").arg(self.port.to_string());
        command.arg("-k").arg(&self.folder).current_dir(&self.folder);
        let fast = ["listen_addresses=127.0.0.1", "fsync=off", "shared_buffers=32MB", "max_connections=400"];
        command.args(fast.map(|setting| format!("--{setting}"))).args(&self.settings);
        command
    }

    fn init_mariadb(&self) {
        let mut install = Command::new(find("mariadb-install-db").expect("it comes with the server"));
        install.args(["--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db"]);
        install.arg(format!("--datadir={}", self.folder.join("data").display()));
        run(install.arg(format!("--user={}", mariadb_user())));
        let sql = format!(
            "CREATE USER IF NOT EXISTS '{USER}'@'%' IDENTIFIED BY '{PASSWORD}';\nGRANT ALL ON *.* TO '{USER}'@'%' WITH GRANT OPTION;\n"
        );
        std::fs::write(self.folder.join("init.sql"), sql).expect("written");
        if is_root() {
            run(Command::new("chown").arg("-R").arg(mariadb_user()).arg(&self.folder));
        }
    }

    fn mariadb(&self) -> Command {
        let own = |name: &str| self.folder.join(name).display().to_string();
        let mut command = Command::new(find("mariadbd").expect("it is there"));
        command.arg("--no-defaults").arg(format!("--user={}", mariadb_user()));
        command.args([
            "--bind-address=127.0.0.1",
            "--skip-name-resolve",
            "--skip-log-bin",
            "--performance-schema=OFF",
        ]);
        command.args(["--innodb-flush-method=nosync", "--sync-frm=0"]);
        command.args([
            "--innodb-buffer-pool-size=64M",
            "--innodb-flush-log-at-trx-commit=0",
            "--max-connections=400",
        ]);
        command.arg(format!("--port={}", self.port)).arg(format!("--datadir={}", own("data")));
        command.arg(format!("--socket={}", own("sock"))).arg(format!("--init-file={}", own("init.sql")));
        command.args(&self.settings);
        command
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Whether each thread of a process and of its children is stopped, as /proc has it.
fn stands_still(id: u32) -> bool {
    let children = Command::new("pgrep").args(["-P", &id.to_string()]).output();
    let children =
        children.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    let all = children.lines().map(str::to_owned).chain([id.to_string()]);
    all.flat_map(|id| std::fs::read_dir(format!("/proc/{id}/task")).into_iter().flatten().flatten()).all(
        |task| {
            let stat = std::fs::read_to_string(task.path().join("stat")).unwrap_or_default();
            // After the name, which may hold anything but ends at the last bracket.
            stat.rsplit(')')
                .next()
                .is_none_or(|rest| matches!(rest.trim_start().chars().next(), Some('T' | 't') | None))
        },
    )
}

/// Between two looks at a process; the caller's thread is a test's own.
#[expect(
    clippy::disallowed_methods,
    reason = "the harness blocks its caller until the server is there, outside any runtime's duties"
)]
fn pause() {
    std::thread::sleep(Duration::from_millis(20));
}

fn signal(child: &Child, name: &str) {
    let _ = Command::new("kill").arg(format!("-{name}")).arg(child.id().to_string()).status();
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address").port()
}

fn is_root() -> bool {
    Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}

/// PostgreSQL refuses root.
fn postgres_user() -> Option<&'static str> {
    is_root().then_some("postgres")
}

/// Nor as root: a joining Galera node's rsync would give up its rights and not find the folder any more.
fn mariadb_user() -> String {
    if is_root() { "mysql".to_owned() } else { std::env::var("USER").unwrap_or_default() }
}

fn as_postgres(program: &str) -> Command {
    let program = find(program).expect("it comes with the server");
    match postgres_user() {
        Some(user) => {
            let mut command = Command::new("setpriv");
            command.args(["--reuid", user, "--regid", user, "--init-groups", "--"]).arg(program);
            command
        }
        None => Command::new(program),
    }
}

fn run(command: &mut Command) {
    let output = command.stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}
