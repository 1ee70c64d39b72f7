//! A user service that is called by gRPC at the registration: slow, refusing, gone.

mod kills;

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use propusk::{
    flows::admin::users,
    model::{actor::Actor, saga::SagaState, user::Role},
    storage::{Statement, sagas},
    user_service::proto::{
        CreateUserRequest, CreateUserResponse, DeleteUserRequest, DeleteUserResponse,
        GetUserRequest, UserProfile,
        user_provisioning_server::{UserProvisioning, UserProvisioningServer},
    },
};
use reqwest::StatusCode;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    sync::Semaphore,
};
use tonic::{
    Code, Request, Response, Status,
    transport::{Certificate, Identity, Server, ServerTlsConfig},
};

use crate::support::{
    Backend, PASSWORD, Reply, START, TestServer, backend_tests,
    process::{free_address, free_port},
};

backend_tests! {
    a_registration_creates_the_profile_first,
    a_refused_registration_leaves_nothing,
    an_unavailable_service_undoes_the_registration,
    with_later_the_profile_follows_the_account,
    t167_a_slow_user_service_holds_up_nobody_else,
    an_account_whose_profile_never_comes_is_handled_as_configured,
    the_service_is_called_by_tls_with_certificate_and_token,
}

backend_tests! {
    requires "Node.js":
    the_example_service_decides_on_registrations,
}

/// How the service answers to CreateUser.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Mood {
    Creates,
    /// Creates the profile and says that it exists.
    Repeats,
    /// Creates the profile and says that it is unavailable.
    Fails,
    Refuses(Code),
}

/// Where a call waits while its gate is closed: before it has an effect, and after.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Gate {
    Create,
    Created,
    Delete,
    Deleted,
}

struct State {
    mood: Mutex<Mood>,
    /// Of each call to CreateUser.
    calls: Mutex<Vec<CreateUserRequest>>,
    deadlines: Mutex<Vec<String>>,
    authorizations: Mutex<Vec<String>>,
    profiles: Mutex<BTreeMap<String, CreateUserRequest>>,
    /// Of each [`Gate`]. A call takes a permit and puts it back.
    gates: [Semaphore; 4],
    /// Each gate that a call has come to.
    reached: Mutex<Vec<Gate>>,
}

impl State {
    async fn pass(&self, gate: Gate) {
        self.reached.lock().unwrap().push(gate);
        drop(self.gates[gate as usize].acquire().await.expect("open"));
    }
}

#[derive(Clone)]
struct Service(Arc<State>);

#[tonic::async_trait]
impl UserProvisioning for Service {
    async fn create_user(
        &self,
        request: Request<CreateUserRequest>,
    ) -> Result<Response<CreateUserResponse>, Status> {
        let state = &self.0;
        let deadline = request.metadata().get("grpc-timeout").expect("a deadline");
        state.deadlines.lock().unwrap().push(deadline.to_str().expect("text").to_owned());
        if let Some(token) = request.metadata().get("authorization") {
            let token = token.to_str().expect("text").to_owned();
            state.authorizations.lock().unwrap().push(token);
        }
        let account = request.into_inner();
        state.calls.lock().unwrap().push(account.clone());
        state.pass(Gate::Create).await;
        let mood = *state.mood.lock().unwrap();
        if let Mood::Refuses(code) = mood {
            return Err(Status::new(code, "no such names here"));
        }
        state.profiles.lock().unwrap().insert(account.id.clone(), account);
        state.pass(Gate::Created).await;
        match mood {
            Mood::Repeats => Err(Status::already_exists("there is a profile")),
            Mood::Fails => Err(Status::unavailable("overloaded")),
            _ => Ok(Response::new(CreateUserResponse { profile_id: None })),
        }
    }

    async fn get_user(
        &self,
        request: Request<GetUserRequest>,
    ) -> Result<Response<UserProfile>, Status> {
        let id = request.into_inner().id;
        if !self.0.profiles.lock().unwrap().contains_key(&id) {
            return Err(Status::not_found("there is none"));
        }
        Ok(Response::new(UserProfile { id, profile_id: None }))
    }

    async fn delete_user(
        &self,
        request: Request<DeleteUserRequest>,
    ) -> Result<Response<DeleteUserResponse>, Status> {
        let id = request.into_inner().id;
        self.0.pass(Gate::Delete).await;
        let profile = self.0.profiles.lock().unwrap().remove(&id);
        self.0.pass(Gate::Deleted).await;
        match profile {
            Some(_) => Ok(Response::new(DeleteUserResponse {})),
            None => Err(Status::not_found("there is none")),
        }
    }
}

impl Service {
    fn new() -> Self {
        Self(Arc::new(State {
            mood: Mutex::new(Mood::Creates),
            calls: Mutex::default(),
            deadlines: Mutex::default(),
            authorizations: Mutex::default(),
            profiles: Mutex::default(),
            gates: std::array::from_fn(|_| Semaphore::new(1)),
            reached: Mutex::default(),
        }))
    }

    /// Listens until the handle is aborted.
    async fn listen(&self, port: u16) -> tokio::task::JoinHandle<()> {
        self.listen_with(port, Server::builder()).await
    }

    async fn listen_with(&self, port: u16, mut server: Server) -> tokio::task::JoinHandle<()> {
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let service = UserProvisioningServer::new(self.clone());
        let listening = tokio::spawn(async move {
            server.add_service(service).serve(address).await.expect("it serves");
        });
        // Polls: the listener does not say when it is bound.
        while tokio::net::TcpStream::connect(address).await.is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        listening
    }

    fn set(&self, mood: Mood) {
        *self.0.mood.lock().unwrap() = mood;
    }

    /// From now on calls wait there.
    async fn hold(&self, gate: Gate) {
        self.0.gates[gate as usize].acquire().await.expect("open").forget();
    }

    fn release(&self, gate: Gate) {
        self.0.gates[gate as usize].add_permits(1);
    }

    /// Polls until so many calls have come there.
    async fn reached(&self, gate: Gate, count: usize) {
        let calls = || self.0.reached.lock().unwrap().iter().filter(|one| **one == gate).count();
        for _ in 0..1_200 {
            if calls() >= count {
                return;
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        panic!("{} of {count} calls have come to {gate:?} after 30 s", calls());
    }

    fn profiles(&self) -> Vec<String> {
        self.0.profiles.lock().unwrap().keys().cloned().collect()
    }
}

fn settings(url: &str) -> Vec<(&str, &str)> {
    vec![
        ("PROPUSK_USER_SERVICE__MODE", "grpc"),
        ("PROPUSK_USER_SERVICE__URL", url),
        ("PROPUSK_USER_SERVICE__TIMEOUT", "25s"),
        ("PROPUSK_USER_SERVICE__RETRIES", "0"),
    ]
}

async fn register(server: &TestServer, name: &str) -> Reply {
    let email = format!("{name}@example.org");
    let body = json!({ "email": email, "username": name, "password": PASSWORD });
    server.post("/api/v1/auth/register", body).await
}

/// The ids of the accounts.
async fn accounts(server: &TestServer) -> Vec<String> {
    let rows = server.app.db.read(Statement::new("SELECT id FROM users ORDER BY id")).await;
    rows.expect("users").iter().map(|row| row.get("id").expect("an id")).collect()
}

/// The states of the sagas, in alphabetical order.
async fn states(server: &TestServer) -> Vec<String> {
    let rows = server.app.db.read(Statement::new("SELECT state FROM sagas ORDER BY state")).await;
    rows.expect("sagas").iter().map(|row| row.get("state").expect("a state")).collect()
}

/// Polls until the worker has brought the sagas there.
async fn until_states(server: &TestServer, expected: &[&str]) {
    for _ in 0..1_200 {
        if states(server).await == expected {
            return;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("the sagas are {:?} after 30 s", states(server).await);
}

async fn a_registration_creates_the_profile_first(backend: Backend) {
    let (service, port) = (Service::new(), free_port());
    let _listening = service.listen(port).await;
    let url = format!("http://127.0.0.1:{port}");
    let server = TestServer::with(backend, &settings(&url)).await;
    let before = accounts(&server).await;
    let reply = register(&server, "ann").await.expect(StatusCode::CREATED);
    server.verify(&reply.tokens().access).await.expect(StatusCode::OK);
    let ann = users::find(&server.app, "ann").await.expect("ann").id;
    assert_eq!(service.profiles(), [ann.as_str()]);
    let call = service.0.calls.lock().unwrap()[0].clone();
    let saga = sagas::of_user(&server.app.db, &ann).await.expect("the database").expect("a saga");
    assert_eq!(saga.state, SagaState::Closed);
    assert_eq!(call.saga_id, saga.id);
    assert_eq!((call.id.as_str(), call.email.as_str()), (ann.as_str(), "ann@example.org"));
    assert_eq!(call.username.as_deref(), Some("ann"));
    assert_eq!(call.role.as_deref(), Some("user"));
    assert!(!call.is_verified);
    assert_eq!(call.created_at.expect("a time").seconds, START.as_secs());
    assert_eq!(call.correlation_id, reply.header("x-correlation-id"));
    assert_eq!(service.0.deadlines.lock().unwrap().as_slice(), ["25000000u"]);
    server.login("ann").await.expect(StatusCode::OK);

    // A call that arrives a second time is answered as done.
    service.set(Mood::Repeats);
    register(&server, "bob").await.expect(StatusCode::CREATED);
    // An administrator's, too.
    let admin = server.admin_by(&service).await;
    let reply = admin.post("/users", json!({ "email": "joe@example.org" })).await;
    reply.expect(StatusCode::CREATED);
    assert_eq!(service.profiles().len(), accounts(&server).await.len() - before.len());
}

impl TestServer {
    /// An administrator whose profile the service creates.
    async fn admin_by(&self, service: &Service) -> crate::support::admin::AdminApi<'_> {
        service.set(Mood::Creates);
        register(self, "root").await.expect(StatusCode::CREATED);
        let root = users::find(&self.app, "root").await.expect("root").id;
        let by = Actor::operator();
        users::set_role(&self.app, &root, Role::admin(), &by).await.expect("changed");
        self.clock.advance(Duration::from_secs(2));
        self.admin_as("root").await
    }
}

async fn a_refused_registration_leaves_nothing(backend: Backend) {
    let (service, port) = (Service::new(), free_port());
    let _listening = service.listen(port).await;
    let url = format!("http://127.0.0.1:{port}");
    let server = TestServer::with(backend, &settings(&url)).await;
    let before = accounts(&server).await;
    // ALREADY_EXISTS: another account's profile, for there is none with this id.
    let codes = [
        Code::InvalidArgument,
        Code::FailedPrecondition,
        Code::AlreadyExists,
        Code::PermissionDenied,
    ];
    for code in codes {
        service.set(Mood::Refuses(code));
        let reply = register(&server, "ann").await.expect_error(400, "USER_CREATE_ERROR");
        assert!(!reply.text.contains("no such names here"), "{reply:?}");
        assert_eq!(accounts(&server).await, before);
        assert_eq!(server.login("ann").await.status, StatusCode::UNAUTHORIZED);
    }
    assert_eq!(states(&server).await, ["compensated"; 4]);
    let events = server.events().await;
    let deleted: Vec<&Value> =
        events.iter().filter(|(kind, _)| kind == "user.deleted").map(|(_, data)| data).collect();
    assert_eq!(deleted.len(), 4);
    assert!(deleted.iter().all(|data| data["reason"] == "compensated"), "{deleted:?}");
    service.set(Mood::Creates);
    register(&server, "ann").await.expect(StatusCode::CREATED);
}

async fn an_unavailable_service_undoes_the_registration(backend: Backend) {
    let (service, port) = (Service::new(), free_port());
    let url = format!("http://127.0.0.1:{port}");
    let server = TestServer::with(backend, &settings(&url)).await;
    let before = accounts(&server).await;
    let reply = register(&server, "ann").await.expect_error(503, "SERVICE_UNAVAILABLE");
    assert!(!reply.header("retry-after").is_empty(), "{reply:?}");
    assert_eq!(accounts(&server).await, before);
    // Whether it has a profile is unknown: the saga stays until the service says so.
    assert_eq!(states(&server).await, ["compensating"]);
    let id: String =
        server.app.db.read(Statement::new("SELECT user_id FROM sagas")).await.expect("rows")[0]
            .get("user_id")
            .expect("an id");
    let profile = CreateUserRequest { id: id.clone(), ..CreateUserRequest::default() };
    service.0.profiles.lock().unwrap().insert(id, profile);
    let _listening = service.listen(port).await;
    server.clock.advance(Duration::from_secs(300));
    until_states(&server, &["compensated"]).await;
    assert!(service.profiles().is_empty());
}

async fn with_later_the_profile_follows_the_account(backend: Backend) {
    let (service, port) = (Service::new(), free_port());
    let url = format!("http://127.0.0.1:{port}");
    let mut later = settings(&url);
    later.push(("PROPUSK_USER_SERVICE__ON_FAILURE", "later"));
    let server = TestServer::with(backend, &later).await;
    register(&server, "ann").await.expect(StatusCode::CREATED);
    server.login("ann").await.expect(StatusCode::OK);
    assert_eq!(states(&server).await, ["started"]);
    let _listening = service.listen(port).await;
    server.clock.advance(Duration::from_secs(300));
    until_states(&server, &["closed"]).await;
    let ann = users::find(&server.app, "ann").await.expect("ann").id;
    assert_eq!(service.profiles(), [ann.as_str()]);
}

async fn t167_a_slow_user_service_holds_up_nobody_else(backend: Backend) {
    let (service, port) = (Service::new(), free_port());
    let _listening = service.listen(port).await;
    let url = format!("http://127.0.0.1:{port}");
    let server = Arc::new(TestServer::with(backend, &settings(&url)).await);
    let ann = register(&server, "ann").await.expect(StatusCode::CREATED).tokens();
    service.hold(Gate::Create).await;
    // More than there are connections to the database.
    let waiting: Vec<_> = (0..100)
        .map(|number| {
            let server = Arc::clone(&server);
            tokio::spawn(async move { register(&server, &format!("user{number}")).await })
        })
        .collect();
    service.reached(Gate::Create, 101).await;
    server.verify(&ann.access).await.expect(StatusCode::OK);
    server.login("ann").await.expect(StatusCode::OK);
    server.refresh(&ann.refresh).await.expect(StatusCode::OK);
    assert!(waiting.iter().all(|one| !one.is_finished()), "all registrations wait");
    service.release(Gate::Create);
    for one in waiting {
        one.await.expect("a task").expect(StatusCode::CREATED);
    }
    assert_eq!(service.profiles().len(), 101);
}

async fn an_account_whose_profile_never_comes_is_handled_as_configured(backend: Backend) {
    let url = format!("http://127.0.0.1:{}", free_port());
    for (choice, state, stays) in [("keep", "closed", true), ("compensate", "compensating", false)]
    {
        let mut later = settings(&url);
        later.push(("PROPUSK_USER_SERVICE__ON_FAILURE", "later"));
        later.push(("PROPUSK_USER_SERVICE__ON_DEADLINE", choice));
        let server = TestServer::with(backend, &later).await;
        register(&server, "ann").await.expect(StatusCode::CREATED);
        server.clock.advance(Duration::from_secs(24 * 3_600));
        until_states(&server, &[state]).await;
        assert_eq!(users::find(&server.app, "ann").await.is_ok(), stays, "{choice}");
    }
}

async fn the_example_service_decides_on_registrations(backend: Backend) {
    let folder = std::env::var("PROPUSK_TEST_CLIENTS_DIR").expect("run ./dev/test");
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let address = free_address();
    // Beside the libraries that it imports.
    let script =
        std::path::Path::new(&folder).join(format!("grpc-{}.mjs", address.replace(':', "-")));
    std::fs::copy(root.join("examples/user-service/grpc.mjs"), &script).expect("a copy");
    let mut service = tokio::process::Command::new("node")
        .arg(script)
        .env("LISTEN", &address)
        .env("PROTO", root.join("proto"))
        .env("REFUSED_DOMAIN", "refused.example")
        .stdout(std::process::Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("Node.js runs");
    let mut lines = BufReader::new(service.stdout.take().expect("its output")).lines();
    let mut next = async || -> Value {
        let line = tokio::time::timeout(Duration::from_secs(60), lines.next_line()).await;
        let line = line.expect("a decision").expect("its output").expect("Node.js runs");
        serde_json::from_str(&line).expect("JSON")
    };
    assert_eq!(next().await["listening"], json!(address));
    let url = format!("http://{address}");
    let server = TestServer::with(backend, &settings(&url)).await;
    register(&server, "ann").await.expect(StatusCode::CREATED);
    let ann = users::find(&server.app, "ann").await.expect("ann").id;
    let profile = json!({ "username": "ann", "email": "ann@example.org" });
    assert_eq!(next().await, json!({ "created": ann, "profile": profile }));
    let body = json!({ "email": "bob@refused.example", "username": "bob", "password": PASSWORD });
    let reply = server.post("/api/v1/auth/register", body).await;
    reply.expect_error(400, "USER_CREATE_ERROR");
    assert!(next().await["refused"].is_string());
    assert_eq!(states(&server).await, ["closed", "compensated"]);
}

async fn the_service_is_called_by_tls_with_certificate_and_token(backend: Backend) {
    let (service, port) = (Service::new(), free_port());
    let folder = tempfile::tempdir().expect("a folder");
    let file = |name: &str, content: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, content).expect("a file");
        path.display().to_string()
    };
    let issue =
        |name: &str| rcgen::generate_simple_self_signed([name.to_owned()]).expect("a certificate");
    let (own, caller) = (issue("127.0.0.1"), issue("propusk.internal"));
    let tls = ServerTlsConfig::new()
        .identity(Identity::from_pem(own.cert.pem(), own.signing_key.serialize_pem()))
        .client_ca_root(Certificate::from_pem(caller.cert.pem()));
    let _listening =
        service.listen_with(port, Server::builder().tls_config(tls).expect("TLS")).await;
    let url = format!("https://127.0.0.1:{port}");
    let authority = file("ca.pem", &own.cert.pem());
    let certificate = file("certificate.pem", &caller.cert.pem());
    let key = file("key.pem", &caller.signing_key.serialize_pem());
    let token = file("token", "first\n");
    let mut settings = settings(&url);
    settings.extend([
        ("PROPUSK_USER_SERVICE__CA_FILE", authority.as_str()),
        ("PROPUSK_USER_SERVICE__TOKEN_FILE", token.as_str()),
    ]);
    // Without a certificate the service does not talk to it.
    let stranger = TestServer::with(backend, &settings).await;
    register(&stranger, "ann").await.expect_error(503, "SERVICE_UNAVAILABLE");
    settings.extend([
        ("PROPUSK_USER_SERVICE__CERTIFICATE", certificate.as_str()),
        ("PROPUSK_USER_SERVICE__KEY", key.as_str()),
    ]);
    let server = TestServer::with(backend, &settings).await;
    register(&server, "ann").await.expect(StatusCode::CREATED);
    // The token is read for each call.
    file("token", "second\n");
    register(&server, "bob").await.expect(StatusCode::CREATED);
    let authorizations = service.0.authorizations.lock().unwrap().clone();
    assert_eq!(authorizations, ["Bearer first", "Bearer second"]);
}
