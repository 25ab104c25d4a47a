use super::*;
use proptest::prelude::*;

const HOST: Uuid = Uuid::from_u128(0x1111);
const BOOT: Uuid = Uuid::from_u128(0x2222);

fn key(byte: u8) -> AgentKey {
    AgentKey::from_bytes([byte; 32])
}

fn network() -> impl Strategy<Value = Network> {
    prop::sample::select(&Network::ALL[..])
}

fn age() -> impl Strategy<Value = Option<u32>> {
    prop::option::of(0..u32::MAX)
}

fn uuid() -> impl Strategy<Value = Uuid> {
    any::<u128>().prop_map(Uuid::from_u128)
}

prop_compose! {
    fn watchdog()(armed: bool, nowayout: bool, software: bool, timeout_s: u16, lease_ms: u32) -> Watchdog {
        Watchdog { armed, nowayout, software, timeout_s, lease_ms }
    }
}

prop_compose! {
    fn sight()(neighbour: u64, network in network(), age_ms in age()) -> Sight {
        Sight { neighbour, network, age_ms }
    }
}

prop_compose! {
    fn beat()(host in uuid(), boot in uuid(), counter: u64, network in network(),
              echo in prop::option::of((uuid(), any::<[u8; 8]>())), watchdog in watchdog(),
              libvirt_age_ms in age(), storage_write_age_ms in age(),
              sights in prop::collection::vec(sight(), 0..=MAX_SIGHTS)) -> Beat {
        let echo = echo.map(|(engine, nonce)| Echo { engine, nonce });
        Beat { host, boot, counter, network, echo, watchdog, libvirt_age_ms, storage_write_age_ms, sights }
    }
}

prop_compose! {
    fn peer()(neighbour: u64, ip: [u8; 16], v4: bool, port: u16, link: [u8; 16]) -> Peer {
        let ip = if v4 { IpAddr::from([ip[0], ip[1], ip[2], ip[3]]) } else { IpAddr::from(ip).to_canonical() };
        Peer { neighbour, address: SocketAddr::new(ip, port), link: LinkKey::from_bytes(link) }
    }
}

prop_compose! {
    fn ack()(engine in uuid(), counter: u64, network in network(), nonce: [u8; 8], fetch_orders: bool, renews: bool,
             state in prop::sample::select(vec![HostState::Unknown, HostState::In, HostState::Admitted, HostState::Out]),
             peers in prop::collection::vec(peer(), 0..=MAX_PEERS)) -> Ack {
        Ack { engine, host: HOST, boot: BOOT, counter, network, nonce, fetch_orders, renews, state, peers }
    }
}

/// Any bytes that begin like ours, so that the deeper checks are reached.
fn hostile() -> impl Strategy<Value = Vec<u8>> {
    (prop::collection::vec(any::<u8>(), 0..300), 0u8..5, 0u8..10, any::<bool>()).prop_map(
        |(mut b, kind, count, ours)| {
            if ours && b.len() >= 8 {
                b[..4].copy_from_slice(&MAGIC);
                (b[4], b[5], b[7]) = (VERSION, kind, count);
            }
            b
        },
    )
}

/// Bytes with a good tag but any content: only the key's holder can make these, and even they must not panic us.
fn resealed(mut bytes: Vec<u8>, key: &AgentKey, bound: &[&[u8]]) -> Vec<u8> {
    let at = bytes.len() - 16;
    bytes.truncate(at);
    let mut parts = vec![&bytes[..]];
    parts.extend_from_slice(bound);
    let tag = key.tag(&parts);
    bytes.extend_from_slice(&tag);
    bytes
}

proptest! {
    #[test]
    fn beats_come_back_as_they_went(beat in beat()) {
        let bytes = beat.seal(&key(1));
        prop_assert!(bytes.len() <= MAX_LEN);
        prop_assert_eq!(kind(&bytes), Ok(Kind::Beat));
        let claim = Beat::claim(&bytes).unwrap();
        prop_assert_eq!((claim.host, claim.boot, claim.counter, claim.network), (beat.host, beat.boot, beat.counter, beat.network));
        prop_assert_eq!(Beat::open(&bytes, &key(1)).unwrap(), beat);
        prop_assert_eq!(Beat::open(&bytes, &key(2)), Err(DatagramError::Signature));
    }

    #[test]
    fn acks_come_back_as_they_went(ack in ack()) {
        let bytes = ack.seal(&key(1));
        prop_assert!(bytes.len() <= MAX_LEN);
        for peer in &ack.peers {
            prop_assert!(!bytes.windows(16).any(|w| w == peer.link.into_bytes()), "a link key in clear");
        }
        prop_assert_eq!(Ack::open(&bytes, &key(2), HOST, BOOT), Err(DatagramError::Signature));
        prop_assert_eq!(Ack::open(&bytes, &key(1), BOOT, BOOT), Err(DatagramError::Signature));
        prop_assert_eq!(Ack::open(&bytes, &key(1), HOST, HOST), Err(DatagramError::Signature));
        prop_assert_eq!(Ack::open(&bytes, &key(1), HOST, BOOT).unwrap(), ack);
    }

    #[test]
    fn a_flipped_bit_is_refused(beat in beat(), ack in ack(), at: prop::sample::Index) {
        let mut bytes = beat.seal(&key(1));
        let bit = at.index(bytes.len() * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
        prop_assert!(Beat::open(&bytes, &key(1)).is_err());
        let mut bytes = ack.seal(&key(1));
        let bit = at.index(bytes.len() * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
        prop_assert!(Ack::open(&bytes, &key(1), HOST, BOOT).is_err());
    }

    #[test]
    fn a_cut_or_lengthened_datagram_is_refused(beat in beat(), cut in 1usize..100, more in prop::collection::vec(any::<u8>(), 1..100)) {
        let whole = beat.seal(&key(1));
        prop_assert!(Beat::open(&whole[..whole.len() - cut], &key(1)).is_err());
        prop_assert!(Beat::open(&[whole, more].concat(), &key(1)).is_err());
    }

    #[test]
    fn no_bytes_panic(bytes in hostile()) {
        let link = LinkKey::from_bytes([3; 16]);
        let _ = (Beat::claim(&bytes), PeerBeat::claimed_host(&bytes));
        prop_assert!(Beat::open(&bytes, &key(1)).is_err());
        prop_assert!(Ack::open(&bytes, &key(1), HOST, BOOT).is_err());
        prop_assert!(PeerBeat::open(&bytes, &link).is_err());
    }

    #[test]
    fn what_opens_has_one_encoding(beat in beat(), ack in ack(), at: prop::sample::Index, byte: u8) {
        let mut bytes = beat.seal(&key(1));
        let n = bytes.len();
        bytes[at.index(n - 16)] = byte;
        let bytes = resealed(bytes, &key(1), &[]);
        if let Ok(opened) = Beat::open(&bytes, &key(1)) {
            prop_assert_eq!(opened.seal(&key(1)), bytes);
        }
        let mut bytes = ack.seal(&key(1));
        let n = bytes.len();
        bytes[at.index(n - 16)] = byte;
        let bytes = resealed(bytes, &key(1), &[HOST.as_bytes(), BOOT.as_bytes()]);
        if let Ok(opened) = Ack::open(&bytes, &key(1), HOST, BOOT) {
            prop_assert_eq!(opened.seal(&key(1)), bytes);
        }
    }

    #[test]
    fn base64_round_trip(bytes in prop::collection::vec(any::<u8>(), 0..70)) {
        prop_assert_eq!(base64_decode(&base64_encode(&bytes)), Some(bytes));
    }
}

#[test]
fn layout_is_fixed() {
    let beat = Beat {
        host: HOST,
        boot: BOOT,
        counter: 0x0102,
        network: Network::Storage,
        echo: None,
        watchdog: Watchdog { armed: true, nowayout: true, software: false, timeout_s: 10, lease_ms: 5000 },
        libvirt_age_ms: Some(7),
        storage_write_age_ms: None,
        sights: vec![Sight { neighbour: 9, network: Network::Tenant, age_ms: Some(300) }],
    };
    let bytes = beat.seal(&key(1));
    assert_eq!(bytes.len(), 88 + 13 + 16);
    assert_eq!(&bytes[..8], &[0xf5, b'H', b'B', b'D', 1, 1, 2, 1]);
    assert_eq!(&bytes[40..48], &[2, 1, 0, 0, 0, 0, 0, 0]);
    assert_eq!(&bytes[48..64], &[6, 0, 10, 0, 0x88, 0x13, 0, 0, 7, 0, 0, 0, 255, 255, 255, 255]);
    assert_eq!(&bytes[88..101], &[9, 0, 0, 0, 0, 0, 0, 0, 1, 44, 1, 0, 0]);
}

#[test]
fn a_witness_hears_its_neighbour_and_nobody_else() {
    let (a, b) = (Uuid::from_u128(1), Uuid::from_u128(2));
    let link = LinkKey::between((a, &key(1)), (b, &key(2)));
    assert_eq!(link, LinkKey::between((b, &key(2)), (a, &key(1))), "both ends get the same key");
    let beat = PeerBeat { host: a, boot: BOOT, counter: 5, network: Network::Tenant };
    let bytes = beat.seal(&link);
    assert_eq!(PeerBeat::claimed_host(&bytes), Ok(a));
    assert_eq!(PeerBeat::open(&bytes, &link), Ok(beat));
    let other = LinkKey::between((a, &key(1)), (Uuid::from_u128(3), &key(3)));
    assert_eq!(PeerBeat::open(&bytes, &other), Err(DatagramError::Signature));
    // A peer beat is no beat, whatever the key.
    assert!(Beat::open(&bytes, &key(1)).is_err());
}

#[test]
fn too_many_entries_are_left_out() {
    let sight = Sight { neighbour: 1, network: Network::Tenant, age_ms: None };
    let beat = Beat {
        host: HOST,
        boot: BOOT,
        counter: 1,
        network: Network::Tenant,
        echo: None,
        watchdog: Watchdog::default(),
        libvirt_age_ms: None,
        storage_write_age_ms: None,
        sights: vec![sight; 20],
    };
    let opened = Beat::open(&beat.seal(&key(1)), &key(1)).unwrap();
    assert_eq!(opened.sights.len(), MAX_SIGHTS);
}

#[test]
fn key_file_round_trip_and_errors() {
    let file = KeyFile { host: HOST, hostname: "compute-1".into(), key: key(9) };
    let text = file.render();
    assert_eq!(text.lines().count(), 1);
    assert!(text.starts_with("halberd-agent-key-v1 00000000-0000-0000-0000-000000001111 compute-1 CQkJ"));
    assert_eq!(KeyFile::parse(&text).unwrap(), file);
    assert_eq!(KeyFile::parse(&format!("# made today\n\n{text}")).unwrap(), file);
    assert_eq!(KeyFile::parse(""), Err(KeyFileError::Format));
    assert_eq!(KeyFile::parse(&format!("{text}{text}")), Err(KeyFileError::Format));
    assert_eq!(KeyFile::parse(&text.replace("-v1", "-v2")), Err(KeyFileError::Format));
    assert_eq!(KeyFile::parse(&text.replace("1111", "zzzz")), Err(KeyFileError::Host));
    assert_eq!(KeyFile::parse(&text.replace("CQkJ", "")), Err(KeyFileError::Key));
    assert_eq!(KeyFile::parse(&text.replace('=', "")), Err(KeyFileError::Key), "padding is part of it");
    assert!(!format!("{file:?}").contains("CQkJ"), "Debug shows the key");
}
