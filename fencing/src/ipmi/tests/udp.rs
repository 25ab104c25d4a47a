//! The whole client over real datagrams, with everything that happens to them.

use super::peer::{Fault, Rewrite, Shared, State, start};
use super::{device, limits};
use crate::error::FenceError;
use crate::power::{Answer, PowerDevice, PowerState};

/// Off, read, on, read, close.
async fn cycle(ipmi: &super::super::Ipmi) -> Result<(), FenceError> {
    let mut session = ipmi.open().await?;
    let uuid = session.identify().await?.and_then(|i| i.uuid).map(|u| u.to_string());
    assert_eq!(uuid.as_deref(), Some("8839d356-f787-4a0b-8010-d454645c55f8"));
    assert_eq!(session.off().await?, Answer::Accepted);
    assert_eq!(session.read().await?, PowerState::Off);
    assert_eq!(session.on().await?, Answer::Accepted);
    assert_eq!(session.read().await?, PowerState::On);
    session.close().await;
    Ok(())
}

fn fault(shared: &Shared, fault: Fault) {
    shared.lock().unwrap().fault = fault;
}

/// Chassis controls without the repeats of one order.
fn switched(state: &State) -> Vec<u8> {
    let mut controls = state.controls.clone();
    controls.dedup();
    controls
}

#[tokio::test]
async fn both_suites_switch_and_close() {
    for offered in [&[3_u8, 17][..], &[3], &[17]] {
        let (address, shared) = start(offered).await;
        cycle(&device(address, None)).await.unwrap();
        let state = shared.lock().unwrap();
        assert_eq!((switched(&state), state.closed), (vec![0, 1], 1), "offered {offered:?}");
        assert!(state.sessions.values().all(|s| format!("{s:?}").contains("active: false")));
    }
}

#[tokio::test]
async fn doubled_damaged_and_foreign_datagrams_change_nothing() {
    let (address, shared) = start(&[17]).await;
    fault(&shared, Fault { double: true, noise: true, ..Fault::default() });
    cycle(&device(address, None)).await.unwrap();
    assert_eq!(switched(&shared.lock().unwrap()), [0, 1]);
}

#[tokio::test]
async fn lost_requests_and_answers_are_made_good() {
    for (lose_in, lose_out) in [(5, 0), (0, 4), (7, 5)] {
        let (address, shared) = start(&[3, 17]).await;
        let ipmi = device(address, Some(17));
        fault(&shared, Fault { lose_in, lose_out, ..Fault::default() });
        let mut session = ipmi.open().await.unwrap();
        session.identify().await.unwrap();
        session.off().await.unwrap();
        assert_eq!(session.read().await.unwrap(), PowerState::Off);
        session.close().await;
        let state = shared.lock().unwrap();
        let mut sequences = state.sequences.clone();
        sequences.dedup();
        assert_eq!(sequences, state.sequences, "a resend has a fresh session sequence number");
        assert!(state.controls.iter().all(|c| *c == 0));
    }
}

#[tokio::test]
async fn a_late_answer_never_answers_the_next_question() {
    let (address, shared) = start(&[17]).await;
    let mut session = device(address, None).open().await.unwrap();
    fault(&shared, Fault { late: true, ..Fault::default() });
    // Each answer comes with the next datagram only; every question must still get its own.
    assert_eq!(session.read().await.unwrap(), PowerState::On);
    session.off().await.unwrap();
    assert_eq!(session.read().await.unwrap(), PowerState::Off);
    shared.lock().unwrap().on = true;
    assert_eq!(session.read().await.unwrap(), PowerState::On);
}

/// Request numbers have six bits: the answer of 64 requests ago has this request's number, and only its age betrays it.
#[tokio::test]
async fn an_answer_replayed_a_whole_round_later_is_none() {
    let (address, shared) = start(&[17]).await;
    let mut session = device(address, None).open().await.unwrap();
    fault(&shared, Fault { replay: 64, ..Fault::default() });
    shared.lock().unwrap().on = false;
    for _ in 0..64 {
        assert_eq!(session.read().await.unwrap(), PowerState::Off);
    }
    shared.lock().unwrap().on = true;
    for read in 0..64 {
        assert_eq!(session.read().await.unwrap(), PowerState::On, "reading {read}");
    }
}

/// An answer to another command is none, though it is sealed, well-formed and has the right number.
#[tokio::test]
async fn an_answer_to_another_command_is_none() {
    for (netfn, command) in [(1, 0x0f), (7, 0x01)] {
        let (address, shared) = start(&[17]).await;
        let mut session = device(address, None).open().await.unwrap();
        shared.lock().unwrap().on = false;
        shared.lock().unwrap().rewrite = Some(Rewrite(Box::new(move |message| {
            let sum = |bytes: &[u8]| 0_u8.wrapping_sub(bytes.iter().fold(0, |a: u8, b| a.wrapping_add(*b)));
            (message[1], message[5]) = (netfn << 2, command);
            message[2] = sum(&message[..2]);
            let last = message.len() - 1;
            message[last] = sum(&message[3..last]);
        })));
        let error = session.read().await.unwrap_err();
        assert!(matches!(error, FenceError::Silent { .. }), "{netfn} {command}: {error}");
    }
}

#[tokio::test]
async fn on_is_never_sent_twice() {
    let (address, shared) = start(&[17]).await;
    let mut session = device(address, None).open().await.unwrap();
    fault(&shared, Fault { lose_out: 1, ..Fault::default() });
    let error = session.on().await.unwrap_err();
    assert!(matches!(error, FenceError::Silent { .. }), "{error}");
    assert_eq!(shared.lock().unwrap().controls, [1]);
    let error = session.off().await.unwrap_err();
    assert!(matches!(error, FenceError::Silent { .. }), "{error}");
    assert!(shared.lock().unwrap().controls.len() > 2, "off is repeated");
}

#[tokio::test]
async fn silence_refusal_and_wrong_words_are_told_apart() {
    let (address, shared) = start(&[3]).await;
    let open = |cipher| {
        let ipmi = device(address, cipher);
        async move { ipmi.open().await.err().expect("it was to fail") }
    };
    assert!(matches!(open(Some(17)).await, FenceError::SuiteRefused { asked, .. } if asked == "17"));
    shared.lock().unwrap().password = "other".into();
    assert!(matches!(open(Some(3)).await, FenceError::Credentials { .. }));
    shared.lock().unwrap().password = "secret".into();
    fault(&shared, Fault { silent_rakp1: true, ..Fault::default() });
    let error = open(Some(3)).await;
    assert!(
        matches!(&error, FenceError::Credentials { detail, .. } if detail.contains("user unknown")),
        "{error}"
    );
    fault(&shared, Fault { silent_rakp3: true, ..Fault::default() });
    assert!(matches!(open(Some(3)).await, FenceError::Credentials { .. }));
    fault(&shared, Fault { mute: true, ..Fault::default() });
    assert!(matches!(open(None).await, FenceError::Silent { .. }));
    // A port where nobody listens.
    let free = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let error = device(free, None).open().await.err().unwrap();
    assert!(matches!(error, FenceError::Unreachable { .. }), "{error}");
}

#[tokio::test]
async fn completion_codes_keep_their_meaning() {
    let (address, shared) = start(&[17]).await;
    let mut session = device(address, None).open().await.unwrap();
    let mut off = async |code| {
        shared.lock().unwrap().refuse = vec![code];
        session.off().await
    };
    assert_eq!(off(0xd5).await, Ok(Answer::AlreadySo));
    for busy in [0xc0, 0xc3, 0xc4, 0xcf, 0xd0, 0xd1, 0xd2, 0xd3, 0xff] {
        assert!(matches!(off(busy).await, Err(FenceError::Busy { .. })), "{busy:#x}");
    }
    for code in [0xc1, 0xcc] {
        assert!(matches!(off(code).await, Err(FenceError::Unsupported { .. })), "{code:#x}");
    }
    assert!(matches!(off(0xd4).await, Err(FenceError::Privilege { .. })));
    assert!(matches!(off(0xc9).await, Err(FenceError::Refused { .. })));
}

#[tokio::test]
async fn a_dropped_session_is_closed_all_the_same() {
    let (address, shared) = start(&[17]).await;
    let session = device(address, None).open().await.unwrap();
    drop(session);
    let closed = async {
        while shared.lock().unwrap().closed == 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(limits().handshake * 4, closed).await.unwrap();
}
