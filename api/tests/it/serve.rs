//! The API on a socket, and its orderly end.

use halberd_core::id::NotificationId;
use halberd_store::notifications;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

use crate::kit::{host_down, kit};

#[tokio::test]
async fn a_stop_finishes_the_report_that_is_under_way() {
    let kit = kit().await;
    let segment = kit.segment("a").await;
    kit.host(&segment, "cmp-01").await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let serving = tokio::spawn(halberd_api::serve(listener, kit.app.clone(), async move {
        let _ = stopped.await;
    }));

    let mut client = TcpStream::connect(address).await.unwrap();
    let body = host_down("cmp-01").to_string();
    let head = format!(
        "POST /v1/notifications HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\nExpect: 100-continue\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    client.write_all(head.as_bytes()).await.unwrap();
    // It has the request's head and reads on: the handler is at work.
    let mut go_on = [0; 25];
    client.read_exact(&mut go_on).await.unwrap();
    assert_eq!(&go_on, b"HTTP/1.1 100 Continue\r\n\r\n");
    stop.send(()).unwrap();
    client.write_all(body.as_bytes()).await.unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 202"), "{answer}");
    serving.await.unwrap().unwrap();
    let made: serde_json::Value = serde_json::from_str(answer.split("\r\n\r\n").nth(1).unwrap()).unwrap();
    let id: NotificationId = made["notification"]["notification_uuid"].as_str().unwrap().parse().unwrap();
    notifications::get(&kit.app.db, id).await.unwrap();
    assert!(TcpStream::connect(address).await.is_err(), "nobody listens any more");
}
