//! Strangers at a door for blocks, requests that are none, and holders that lie.

use super::*;

/// Whoever has no certificate, or the scheduler's, gets no block; nor does one whose requests are none.
#[test]
fn strangers_and_malformed_requests_are_refused() {
    let cluster = Cluster::new();
    let (shelf, worker, bulk, asker) = shelf_and_asker(&cluster);
    shelf.blocks.lock().unwrap().insert(id(0), block(&[5]));
    let (rogue, address) = (Rogue::new(), bulk.address().unwrap());
    let party = Expected::Party(Party { role: Role::Worker, id: worker.0 });
    let connect =
        |identity: Option<&Identity>| rogue.connect(address, &cluster.authority, identity, party, Purpose::Bulk);
    assert_eq!(rogue.end(&connect(None).unwrap()), NetError::Refused(Refusal::Stranger));
    let forged = Authority::new().unwrap().identity(Party { role: Role::Worker, id: 1 }, now()).unwrap();
    assert_eq!(rogue.end(&connect(Some(&forged)).unwrap()), NetError::Refused(Refusal::Stranger));
    let scheduler = cluster.authority.scheduler(now()).unwrap();
    let end = rogue.end(&connect(Some(&scheduler)).unwrap());
    assert!(matches!(end, NetError::Refused(Refusal::Stranger | Refusal::Unexpected)), "{end}");

    let member = cluster.identity(Role::Client);
    let huge = BlockHeader { item: Item::Value(DType::F64), shape: [u64::MAX, 3].into_iter().collect() };
    let large = BlockHeader { item: Item::Value(DType::F64), shape: [PARCEL_BYTES_MAX / 16 + 1].into_iter().collect() };
    let request = RequestId(1);
    let put = |parcel, headers| PeerRequest::Put { request, parcel, headers };
    let endless = PeerRequest::Fetch { request, parcel: parcel(0, u64::MAX), field: 0, region: None };
    let unsound = [
        put(parcel(1, 2), vec![vec![huge]]),
        // Each may travel alone.
        put(parcel(1, 3), vec![vec![large.clone()], vec![large]]),
        // More blocks, or fewer, than are described.
        put(parcel(1, 3), vec![Vec::new()]),
        put(parcel(3, 1), vec![Vec::new()]),
        put(parcel(0, PARCEL_BLOCKS_MAX + 1), vec![Vec::new(); PARCEL_BLOCKS_MAX as usize + 1]),
        endless,
    ];
    let unsound = unsound.map(|request| {
        let mut bytes = Vec::new();
        write_frame(&request, &mut bytes).unwrap();
        (bytes, Refusal::TooLong)
    });
    let malformed = [(vec![0xff; 4], Refusal::TooLong), (vec![3, 0, 0, 0, 0xff, 0xff, 0xff], Refusal::Malformed)];
    let cases = unsound.into_iter().chain(malformed);
    for (bytes, refusal) in cases {
        let connection = connect(Some(&member)).unwrap();
        let sent = rogue.does(async {
            super::super::hello::greet(&connection).await?;
            let (mut send, _receive) = connection.open_bi().await?;
            send.write_all(&bytes).await?;
            Ok(connection.closed().await.into())
        });
        assert_eq!(sent, Ok(NetError::Refused(refusal)), "{bytes:?}");
    }
    assert!(fetch(&asker, worker, id(0), None).is_ok(), "unharmed");
}

/// A holder that lies about what it sends costs no memory and is answered for.
#[test]
fn a_holder_that_lies_is_unreachable() {
    let cluster = Cluster::new();
    let identity = cluster.identity(Role::Worker);
    let worker = WorkerId(identity.party().id);
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let verifier = PeerVerifier::new(identity.authority(), Expected::Member);
    let crypto = tls::server(&identity, verifier, &[Purpose::Bulk]).unwrap();
    let liar = runtime
        .block_on(async { quinn::Endpoint::server(tuning::server(crypto, tuning::bulk(9, 1452)), ANY_PORT).unwrap() });
    let address = liar.local_addr().unwrap().to_string();
    runtime.spawn(async move {
        let connection = liar.accept().await.unwrap().await.unwrap();
        let _hello = welcome(&connection).await.unwrap();
        for lie in 0.. {
            let Ok((mut send, mut receive)) = connection.accept_bi().await else { return };
            let request: PeerRequest = frame::read(&mut receive, 1 << 16).await.unwrap();
            let PeerRequest::Fetch { request, .. } = request else { return };
            let item = Item::Value(DType::U32);
            let header = |length| Some(BlockHeader { item, shape: [length].into_iter().collect() });
            let reply = match lie {
                0 => PeerReply::Data { request, headers: vec![header(1 << 40)] },
                1 => PeerReply::Data { request, headers: vec![header(7)] },
                2 => PeerReply::Stored { request },
                3 => PeerReply::Data { request: RequestId(request.0 + 1), headers: vec![None] },
                // More blocks than were asked for, and none.
                4 => PeerReply::Data { request, headers: vec![None; 2] },
                5 => PeerReply::Data { request, headers: Vec::new() },
                // Less than it promised.
                _ => PeerReply::Data { request, headers: vec![header(3)] },
            };
            frame::write(&mut send, &reply).await.unwrap();
            send.write_all(&[1; 11]).await.unwrap();
            let _ = send.finish();
        }
    });
    let asker = cluster.asker();
    asker.meet(worker, address);
    for _ in 0..8 {
        let part = Some(region(&[0], &[3]));
        assert_eq!(fetch(&asker, worker, id(0), part).err(), Some(FetchError::Unreachable));
    }
}
