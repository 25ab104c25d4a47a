//! The rewind rule (SAFETY 3.2): a database that shows less than this engine remembers stops every engine, until the world was looked at.
//!
//! What is remembered is in [`halberd_core::rewind`], what it is compared with in [`halberd_store::identity`]. Here is when that is done:
//! at the start, at each renewal of the lease, when another engine's counter falls, at each claim, when a commit finds another row than
//! it left, and before a deed whenever a connection was made since the last look, as each may lead to another server.
//!
//! Found is said in two steps. In memory first, and from that instant this engine decides nothing and sends nothing
//! ([`Shared::reconcile_only`]); then in the database's own row, which every engine reads each second, and by which no engine's claim
//! or intent is committed any more. While it stands, [`audit`] reads the world afresh. Nothing found ends it; else a person does.

mod audit;
pub mod file;

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use halberd_core::id::{EngineId, RecoveryId};
use halberd_core::policy::Policy;
use halberd_core::rewind::{Compared, Loss, Marks, RecoveryMark, Shown, Thing, compare};
use halberd_core::runner::Commit;
use halberd_core::time::Mono;
use halberd_store::audit::CHECKPOINTS;
use halberd_store::rewind::{Found, Rewound};
use halberd_store::{engines, identity, recoveries, rewind as row, write};
use tokio::task::JoinHandle;
use uuid::Uuid;

use crate::clock;
use crate::shared::Shared;
use file::{File, FileError};

/// How often the row is read, and at most how often the file is written when no deed asks for it.
const TICK: Duration = Duration::from_secs(1);
/// Pause between two looks at the world: what is found is read by people, and what was unreadable may be back.
const AUDIT_AGAIN: Duration = Duration::from_secs(30);
/// The way out, wherever it is said.
pub const WAY_OUT: &str =
    "see `halberd reconcile show`, and end it with `halberd reconcile leave --reason ..`";

/// Why an engine does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Store(#[from] halberd_store::Error),
}

/// That nothing is done.
#[derive(Clone, Debug)]
struct Stopped {
    since: Mono,
    /// What this engine itself found, until it is declared.
    lost: Vec<Loss>,
    /// The row that says so; `None`: it is still to be written.
    row: Option<Uuid>,
}

#[derive(Debug, Default)]
struct State {
    marks: Marks,
    /// Grows with each change of the marks.
    number: u64,
    stopped: Option<Stopped>,
    /// Connections made when all was last found whole.
    whole_at: Option<u64>,
    /// Times that reconcile-only was left in this run: who drove before that drives no more.
    left: u64,
    identity_said: bool,
}

/// What this engine remembers of its database.
#[derive(Debug, Default)]
pub struct Memory {
    state: Mutex<State>,
    file: Option<File>,
    /// One look at a time.
    looking: tokio::sync::Mutex<()>,
}

impl Memory {
    /// In this file, or with `None` in memory alone.
    pub fn new(file: Option<std::path::PathBuf>) -> Memory {
        Memory { file: file.map(File::new), ..Memory::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes what is remembered; the answer is its number.
    fn change(&self, change: impl FnOnce(&mut Marks)) -> u64 {
        let mut state = self.state();
        change(&mut state.marks);
        state.number += 1;
        state.number
    }

    /// Times that reconcile-only was left in this run.
    pub fn left(&self) -> u64 {
        self.state().left
    }

    /// Puts what is remembered on the disk. Not while the database is in doubt: what was on the disk then is what it is compared with.
    async fn save(&self, number: u64) {
        let Some(file) = self.file.as_ref().filter(|_| self.state().stopped.is_none()) else { return };
        file.write(number, || {
            let state = self.state();
            (state.number, state.marks.clone())
        })
        .await;
        metrics::gauge!("halberd_high_water_file_failing").set(f64::from(u8::from(file.is_failing())));
    }
}

/// Compares what the file remembers with what the database shows, before this engine's own row is written.
///
/// # Errors
/// A file that cannot be used, or a database that cannot be read.
pub async fn begin(shared: &Shared) -> Result<(), StartError> {
    metrics::gauge!("halberd_reconcile_only").set(0.0);
    let memory = &shared.rewind;
    let remembered = match &memory.file {
        Some(file) => {
            tracing::info!(path = %file.path().display(), "the high-water file");
            file::read(file.path())?
        }
        None => None,
    };
    let marks = remembered.clone().unwrap_or_default();
    let connections = shared.db.connections();
    let shown = identity::shown(&shared.db, &shared.name, &marks, clock::stamp()).await?;
    if let (Some(file), Some(theirs), Some(ours)) = (&memory.file, marks.identity.own, shown.identity.own)
        && theirs != ours
    {
        return Err(FileError::Foreign { path: file.path().to_owned(), theirs, ours }.into());
    }
    let compared = compare(&marks, &shown);
    memory.change(|mine| *mine = marks);
    match compared {
        Compared::Rewound(lost) => stop(shared, lost),
        Compared::Whole if remembered.is_some() => whole(shared, &shown, connections),
        Compared::Whole | Compared::Reconciled => afresh(shared, &shown, connections),
    }
    follow(shared, row::standing(&shared.db).await?.as_ref());
    Ok(())
}

/// This run has its row.
pub fn registered(shared: &Shared, former: Option<EngineId>) {
    shared.rewind.change(|marks| marks.registered(&shared.name, shared.engine, 0, former));
}

/// The lease was renewed to this counter.
pub async fn renewed(shared: &Shared, counter: i64) {
    let known = {
        let mut state = shared.rewind.state();
        let known = state.marks.engine.as_ref().map_or(0, |engine| engine.counter);
        let fell = !state.marks.renewed(counter);
        state.number += 1;
        (fell && state.stopped.is_none()).then_some(known)
    };
    if let Some(known) = known {
        let text = format!("engine {} shows counter {counter}, {known} was known", shared.name);
        found(shared, vec![loss(Thing::Engine(shared.name.clone()), text)]).await;
        // From here on it is counted from what the database has.
        let mut state = shared.rewind.state();
        if let Some(engine) = &mut state.marks.engine {
            engine.counter = counter;
        }
    }
}

/// This run's row is gone. True: because the database was rewound to before it, and it is registered again; false: another run has taken
/// the name.
///
/// # Errors
/// The database cannot be read or written.
pub async fn row_gone(shared: &Shared) -> halberd_store::Result<bool> {
    let rows = engines::list(&shared.db).await?;
    let there = rows.into_iter().find(|row| row.name == shared.name);
    let former = {
        let state = shared.rewind.state();
        let former = state.marks.engine.as_ref().map(|engine| engine.former.clone()).unwrap_or_default();
        there.as_ref().is_none_or(|row| former.contains(&row.id) || row.id == shared.engine)
    };
    if !former {
        return Ok(false);
    }
    let text = format!("the row of engine {} is missing or shows a run of before this one", shared.name);
    found(shared, vec![loss(Thing::Engine(shared.name.clone()), text)]).await;
    let seen = there.map(|row| (row.id, row.counter));
    let detail = serde_json::json!({"version": env!("CARGO_PKG_VERSION")});
    write(&shared.db, async |tx| {
        engines::register(tx, &shared.name, shared.engine, seen, false, &detail, clock::stamp()).await
    })
    .await?;
    let mut state = shared.rewind.state();
    if let Some(engine) = &mut state.marks.engine {
        engine.counter = 0;
    }
    Ok(true)
}

/// Another engine's counter fell.
pub async fn other_fell(shared: &Shared, name: &str, known: i64, shown: i64) {
    let text = format!("engine {name} shows counter {shown}, {known} was known");
    found(shared, vec![loss(Thing::Engine(name.to_owned()), text)]).await;
}

/// Whether a recovery may be claimed as far as is remembered of it. False: the database shows less of it, and all is stopped.
pub async fn may_claim(shared: &Shared, holder: &recoveries::Holder) -> bool {
    if shared.reconcile_only().is_some() {
        return false;
    }
    let less = {
        let state = shared.rewind.state();
        let mark = state.marks.recoveries.get(&holder.id);
        mark.is_some_and(|mark| holder.epoch < mark.epoch || holder.version < mark.version || mark.closed)
    };
    !less && deed(shared).await.is_ok()
        // The look says what of it is less; a row that came between the two is no finding.
        || less && matches!(look(shared).await, Ok(true))
}

/// A recovery is ours at this epoch.
pub async fn claimed(shared: &Shared, id: RecoveryId, epoch: i64, version: i64) {
    let mark = RecoveryMark { epoch, version, audit: None, closed: false, at: 0 };
    let number = shared.rewind.change(|marks| marks.note(id, mark));
    shared.rewind.save(number).await;
}

/// A transition is durable. What may follow from it goes out when this returns: a deed that cannot be taken back only when the file knows
/// of it.
pub async fn committed(shared: &Shared, content: &Commit, version: i64) {
    let recovery = &content.recovery;
    let audit = identity::head(&shared.db, &recovery.id.to_string()).await.ok().flatten();
    let mark = RecoveryMark { epoch: recovery.epoch, version, audit, closed: !recovery.is_open(), at: 0 };
    let number = shared.rewind.change(|marks| marks.note(recovery.id, mark));
    if content.intents.iter().any(|intent| LASTING.contains(&intent.effect.as_str())) {
        shared.rewind.save(number).await;
    }
}

/// A checkpoint of the audit's heads is durable.
pub async fn checkpointed(shared: &Shared) {
    if let Ok(Some(head)) = identity::head(&shared.db, CHECKPOINTS).await {
        shared.rewind.change(|marks| marks.note_checkpoint(head));
    }
}

/// Effects that must not be forgotten: by one of them a guest may run elsewhere, or never again here.
const LASTING: [&str; 3] = ["power_off", "mark_down", "evacuate"];

/// The last look before a deed goes out.
///
/// # Errors
/// Why it must not.
pub async fn deed(shared: &Shared) -> Result<(), String> {
    let known = shared.rewind.state().whole_at == Some(shared.db.connections());
    if !known && shared.reconcile_only().is_none() {
        look(shared).await.map_err(|error| {
            format!("whether the database still knows all that was done could not be seen: {error}")
        })?;
    }
    match shared.reconcile_only() {
        Some(why) => Err(format!("reconcile-only: {why}")),
        None => Ok(()),
    }
}

/// Compares all that is remembered with what the database shows. True: all of it is there, or it was reconciled without us.
///
/// # Errors
/// The database cannot be read: nothing is known then.
pub async fn look(shared: &Shared) -> halberd_store::Result<bool> {
    let memory = &shared.rewind;
    let _one = memory.looking.lock().await;
    let connections = shared.db.connections();
    // Taken first: the database may show more than these by the time it is read, never less.
    let marks = memory.state().marks.clone();
    // Before the list of times that it was left, which is longer by one in the commit that takes the row away.
    let standing = row::standing(&shared.db).await?;
    let shown = identity::shown(&shared.db, &shared.name, &marks, clock::stamp()).await?;
    let stopped = memory.state().stopped.clone();
    match (&stopped, &standing) {
        (_, Some(standing)) => {
            let known = matches!(&stopped, Some(stopped) if stopped.row == Some(standing.id));
            if !known && let Compared::Rewound(lost) = compare(&marks, &shown) {
                stop(shared, lost);
            }
            follow(shared, Some(standing));
            declare(shared, &shown).await?;
            Ok(false)
        }
        (Some(Stopped { row: Some(id), .. }), None) if shown.reconciled.contains(id) => {
            tracing::warn!(
                "reconcile-only was left: recoveries are claimed afresh, and nothing is fenced before a full window of listening"
            );
            afresh(shared, &shown, connections);
            let number = memory.change(|_| ());
            memory.save(number).await;
            Ok(true)
        }
        (Some(_), None) => {
            match compare(&marks, &shown) {
                // Found before all others left, and not told in time: what the database shows is the truth now.
                Compared::Reconciled => {
                    afresh(shared, &shown, connections);
                    return Ok(true);
                }
                Compared::Rewound(lost) => stop(shared, lost),
                Compared::Whole => {}
            }
            memory.state().stopped.as_mut().into_iter().for_each(|stopped| stopped.row = None);
            declare(shared, &shown).await?;
            Ok(false)
        }
        (None, None) => match compare(&marks, &shown) {
            Compared::Rewound(lost) => {
                stop(shared, lost);
                declare(shared, &shown).await?;
                Ok(false)
            }
            Compared::Reconciled => {
                afresh(shared, &shown, connections);
                Ok(true)
            }
            Compared::Whole => {
                whole(shared, &shown, connections);
                Ok(true)
            }
        },
    }
}

/// Runs until the engine stops.
pub async fn run(shared: std::sync::Arc<Shared>) {
    let mut looked: Option<Mono> = None;
    let mut audits = Audits::default();
    loop {
        let now = clock::mono();
        let stopped = shared.reconcile_only().is_some();
        let pace = Policy::ms(shared.policy.lease_renew_ms);
        let due = looked.is_none_or(|at| now.since(at) >= pace);
        let standing = row::standing(&shared.db).await;
        if let Ok(standing) = &standing
            && (due || stopped || standing.is_some())
        {
            looked = Some(now);
            if let Err(error) = look(&shared).await {
                tracing::warn!(%error, "what is remembered could not be compared with the database");
            }
        }
        if let Ok(Some(standing)) = &standing {
            audits.tick(&shared, standing, now);
        }
        let number = shared.rewind.state().number;
        shared.rewind.save(number).await;
        tokio::select! {
            () = tokio::time::sleep(TICK) => {}
            () = shared.stop.cancelled() => break,
        }
    }
    if let Some(running) = audits.running.take() {
        running.abort();
    }
}

/// A graceful stop: this run's row is given back, and may be forgotten from now on.
pub async fn given_back(shared: &Shared) {
    let number = shared.rewind.change(|marks| {
        if let Some(engine) = &mut marks.engine {
            engine.stopped = true;
        }
    });
    shared.rewind.save(number).await;
}

/// When the world is looked at.
#[derive(Debug, Default)]
struct Audits {
    running: Option<JoinHandle<()>>,
    /// The row as it was last seen with its last look, and since when: an engine that sees others look need not.
    seen: Option<(Rewound, Mono)>,
}

impl Audits {
    fn tick(&mut self, shared: &std::sync::Arc<Shared>, standing: &Rewound, now: Mono) {
        if self.seen.as_ref().is_none_or(|(seen, _)| seen != standing) {
            self.seen = Some((standing.clone(), now));
        }
        let unchanged = self.seen.as_ref().map_or(Duration::ZERO, |(_, since)| now.since(*since));
        let stopped = shared.rewind.state().stopped.clone();
        let Some(stopped) = stopped.filter(|stopped| stopped.row == Some(standing.id)) else { return };
        // Whoever acted by what is lost has stopped by then, and an order that was on its way is carried out: only a look that begins
        // afterwards may end it. The first begins at once, as what it finds is what a person waits for.
        let settled = now.since(stopped.since) >= Policy::ms(shared.policy.lease_ms);
        // Engines take turns: who sees that another has looked does not.
        let again = AUDIT_AGAIN + Duration::from_secs((shared.engine.0.as_u128() % 8) as u64);
        let due = match &standing.audit {
            None => true,
            Some(audit) => unchanged >= again || settled && audit.findings.is_empty(),
        };
        if due && self.running.as_ref().is_none_or(JoinHandle::is_finished) {
            let (shared, standing) = (shared.clone(), standing.clone());
            self.running = Some(tokio::spawn(async move { audit::run(&shared, &standing, settled).await }));
        }
    }
}

fn loss(thing: Thing, text: String) -> Loss {
    Loss { thing, text, epoch: None, version: None }
}

/// Something was found in passing: stopped at once, declared as soon as it can be.
async fn found(shared: &Shared, lost: Vec<Loss>) {
    stop(shared, lost);
    if let Err(error) = look(shared).await {
        tracing::warn!(%error, "that the database was rewound could not be written into it yet; tried again");
    }
}

/// From here on this engine does nothing.
fn stop(shared: &Shared, lost: Vec<Loss>) {
    let (first, words) = {
        let mut state = shared.rewind.state();
        let first = state.stopped.is_none();
        let stopped = state.stopped.get_or_insert_with(|| Stopped {
            since: clock::mono(),
            lost: Vec::new(),
            row: None,
        });
        for loss in lost {
            if !stopped.lost.contains(&loss) {
                stopped.lost.push(loss);
                stopped.row = None;
            }
        }
        let words = words(&stopped.lost);
        state.whole_at = None;
        (first, words)
    };
    if first {
        tracing::error!(
            found = words,
            "the database shows less than this engine remembers: reconcile-only. {WAY_OUT}"
        );
        say(shared, &words);
    }
}

/// Goes by the row that stands.
fn follow(shared: &Shared, standing: Option<&Rewound>) {
    let Some(standing) = standing else { return };
    let first = {
        let mut state = shared.rewind.state();
        state.whole_at = None;
        match &mut state.stopped {
            None => {
                let since = clock::mono();
                state.stopped = Some(Stopped { since, lost: Vec::new(), row: Some(standing.id) });
                true
            }
            Some(stopped) => {
                let declared = stopped.lost.iter().all(|loss| standing.lost.contains(loss));
                if declared || standing.unlisted > 0 {
                    stopped.row = Some(standing.id);
                }
                false
            }
        }
    };
    if first {
        tracing::error!(
            by = standing.by,
            why = standing.why,
            "this database stands in reconcile-only. {WAY_OUT}"
        );
    }
    say(shared, &standing.why);
}

fn say(shared: &Shared, why: &str) {
    metrics::gauge!("halberd_reconcile_only").set(1.0);
    shared.fleet().reconcile_only =
        Some(format!("{why}; nothing is done until the world was looked at: {WAY_OUT}"));
    shared.changed.notify_waiters();
}

/// Tells all engines, through the database; unless reconcile-only was left since it showed what was compared: the next look says what
/// that leaves of it.
async fn declare(shared: &Shared, compared: &Shown) -> halberd_store::Result<()> {
    let stopped = shared.rewind.state().stopped.clone();
    let Some(stopped) = stopped.filter(|stopped| stopped.row.is_none()) else { return Ok(()) };
    let mut lost = stopped.lost;
    if lost.is_empty() {
        lost.push(Loss::stated("the row that says so has vanished, and nobody has left reconcile-only"));
    }
    let why = words(&lost);
    let found = Found { by: &shared.name, why: &why, lost: &lost };
    let declared = write(&shared.db, async |tx| {
        let (engine, hooks) = (shared.engine, &shared.webhooks);
        row::declare_found(tx, &compared.reconciled, engine, &found, hooks, clock::stamp()).await
    })
    .await?;
    let Some(declared) = declared else { return Ok(()) };
    follow(shared, Some(&declared));
    if let Some(stopped) = &mut shared.rewind.state().stopped {
        stopped.row = Some(declared.id);
    }
    Ok(())
}

fn words(lost: &[Loss]) -> String {
    let first = lost.first().map_or("something was lost", |loss| loss.text.as_str());
    match lost.len() {
        0 | 1 => format!("the database shows less than was remembered: {first}"),
        more => format!("the database shows less than was remembered: {first}, and {} more", more - 1),
    }
}

/// All is there.
fn whole(shared: &Shared, shown: &Shown, connections: u64) {
    let mut state = shared.rewind.state();
    if !state.identity_said && shown.identity.server.is_none() && shared.db.path().is_none() {
        tracing::info!(
            "the database server does not tell who it is; the database is known by its own id alone"
        );
    }
    state.identity_said = true;
    let before = state.marks.identity.timeline.clone();
    state.marks.learn(shown);
    let now = &state.marks.identity.timeline;
    if before.is_some() && *now != before {
        tracing::warn!(
            ?before,
            ?now,
            "the database server was promoted; it shows all that this engine remembers"
        );
    }
    if state.stopped.is_none() {
        state.whole_at = Some(connections);
    }
}

/// What the database shows is the truth from here on.
fn afresh(shared: &Shared, shown: &Shown, connections: u64) {
    {
        let mut state = shared.rewind.state();
        state.marks.begin_at(shown);
        if let (Some(engine), Some((id, counter))) = (&mut state.marks.engine, shown.engine)
            && engine.id == id
        {
            engine.counter = counter;
        }
        state.number += 1;
        state.whole_at = Some(connections);
        if state.stopped.take().is_some() {
            state.left += 1;
        }
    }
    metrics::gauge!("halberd_reconcile_only").set(0.0);
    let mut fleet = shared.fleet();
    fleet.reconcile_only = None;
    // As after any failover of the database (G8): what it said of anybody's silence is of before.
    fleet.deaf_until(clock::mono());
    drop(fleet);
    shared.changed.notify_waiters();
    shared.nudge.notify_waiters();
}
