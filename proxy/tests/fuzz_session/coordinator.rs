//! A coordinator that says yes, or no at random, and remembers nothing.

use std::pin::Pin;

use atone_api::Client;
use atone_api::proto::coordinator_server::{Coordinator, CoordinatorServer};
use atone_api::proto::{
    self, CoordinatorMessage, ErrorCode, HelloReply, Pong, ProxyMessage, Registered, Transaction,
    coordinator_message, proxy_message,
};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{Request, Response, Status, Streaming};

/// The only transaction.
pub(crate) const XID: &str = "fuzz:1";

struct Fake;

type Messages = Pin<Box<dyn tokio_stream::Stream<Item = Result<CoordinatorMessage, Status>> + Send>>;

fn transaction() -> Transaction {
    Transaction { xid: XID.into(), status: proto::Status::Active.into(), ..Transaction::default() }
}

fn answer(message: ProxyMessage) -> Option<CoordinatorMessage> {
    use coordinator_message::Body as Answer;
    use proxy_message::Body;
    let refused = |code: ErrorCode| {
        Answer::Error(proto::Error { code: code.into(), message: "no".into(), ..proto::Error::default() })
    };
    let odd = rand::random_range(0..8) == 0;
    let body = match message.body? {
        Body::Hello(_) => {
            Answer::Hello(HelloReply { coordinator_id: "fuzz".into(), ..HelloReply::default() })
        }
        Body::Begin(_) if odd => refused(ErrorCode::Unavailable),
        Body::Get(_) if odd => refused(ErrorCode::UnknownXid),
        Body::Commit(_) if odd => refused(ErrorCode::RolledBack),
        Body::Rollback(_) if odd => refused(ErrorCode::Ended),
        Body::Register(_) if odd => refused(match rand::random_range(0..3) {
            0 => ErrorCode::LockTimeout,
            1 => ErrorCode::LockDeadlock,
            _ => ErrorCode::RolledBack,
        }),
        Body::Begin(_) | Body::Get(_) | Body::Commit(_) | Body::Rollback(_) => {
            Answer::Transaction(transaction())
        }
        Body::Register(_) => Answer::Registered(Registered { branch_id: 7 }),
        Body::Ping(_) => Answer::Pong(Pong {}),
        Body::Report(_) | Body::WorkResult(_) | Body::Cancel(_) | Body::LocalWaits(_) => return None,
    };
    Some(CoordinatorMessage { id: message.id, body: Some(body) })
}

#[tonic::async_trait]
impl Coordinator for Fake {
    type SessionStream = Messages;

    async fn session(&self, request: Request<Streaming<ProxyMessage>>) -> Result<Response<Messages>, Status> {
        let (sender, receiver) = mpsc::channel(1024);
        let mut incoming = request.into_inner();
        tokio::spawn(async move {
            while let Ok(Some(message)) = incoming.message().await {
                if let Some(answer) = answer(message)
                    && sender.send(Ok(answer)).await.is_err()
                {
                    return;
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn begin_transaction(&self, _: Request<proto::Begin>) -> Result<Response<Transaction>, Status> {
        Ok(Response::new(transaction()))
    }

    async fn get_transaction(&self, _: Request<proto::Get>) -> Result<Response<Transaction>, Status> {
        Ok(Response::new(transaction()))
    }

    async fn commit_transaction(&self, _: Request<proto::Commit>) -> Result<Response<Transaction>, Status> {
        Ok(Response::new(transaction()))
    }

    async fn rollback_transaction(
        &self,
        _: Request<proto::Rollback>,
    ) -> Result<Response<Transaction>, Status> {
        Ok(Response::new(transaction()))
    }
}

/// Starts it, and returns a client of it that is connected.
pub(crate) async fn start(resources: &[&str]) -> Client {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let server = tonic::transport::Server::builder().add_service(CoordinatorServer::new(Fake));
    tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
    let (work, mut queue) = mpsc::channel(16);
    tokio::spawn(async move { while queue.recv().await.is_some() {} });
    let resources = resources.iter().map(|r| (*r).to_owned()).collect();
    let client = Client::connect(vec![url], "fuzz".into(), resources, work).unwrap();
    while !client.is_connected() {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    client
}
