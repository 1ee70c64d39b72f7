//! nginx as `examples/nginx` configures it, and the application behind it.

use std::{
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// A running nginx; killed when it is dropped.
pub struct Nginx {
    child: Child,
    _folder: TempDir,
}

impl Nginx {
    /// Starts the example on an address, between Propusk and an application, and waits until it
    /// answers. Only the three addresses are changed.
    pub async fn start(address: &str, propusk: &str, application: &str) -> Self {
        let program = std::env::var("PROPUSK_TEST_NGINX")
            .expect("PROPUSK_TEST_NGINX names no nginx: run ./dev/test");
        let folder = tempfile::tempdir().expect("a folder");
        // When root starts nginx, its workers run as another user.
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(folder.path(), open).expect("open to all");
        let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/nginx");
        for file in std::fs::read_dir(example).expect("the example") {
            let file = file.expect("a file");
            let mut text = std::fs::read_to_string(file.path()).expect("text");
            if file.file_name() == "nginx.conf" {
                for (theirs, ours) in [
                    ("server 127.0.0.1:8080;", format!("server {propusk};")),
                    ("server 127.0.0.1:3000;", format!("server {application};")),
                    ("listen 127.0.0.1:9000;", format!("listen {address};")),
                ] {
                    assert_eq!(text.matches(theirs).count(), 1, "{theirs}");
                    text = text.replace(theirs, &ours);
                }
            }
            std::fs::write(folder.path().join(file.file_name()), text).expect("written");
        }
        let log = folder.path().join("error.log");
        let child = Command::new(program)
            .arg("-p")
            .arg(folder.path())
            .arg("-c")
            .arg(folder.path().join("nginx.conf"))
            .args(["-g", "daemon off;"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(&log).expect("a log"))
            .spawn()
            .expect("nginx starts");
        let mut nginx = Self { child, _folder: folder };
        for _ in 0..400 {
            if TcpStream::connect(address).await.is_ok() {
                return nginx;
            }
            if let Some(status) = nginx.child.try_wait().expect("a child") {
                let log = std::fs::read_to_string(&log).unwrap_or_default();
                panic!("nginx exited with {status}: {log}");
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        panic!("nginx does not answer after 10 s");
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // Its workers end with it, if it is allowed to signal them.
        let id = self.child.id().to_string();
        let _ = Command::new("kill").args(["-TERM", &id]).status();
        let _ = self.child.wait();
    }
}

/// An application that answers with the header section of the request as received. Returns its
/// address.
pub async fn application() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(echo(stream));
        }
    });
    address
}

async fn echo(mut stream: TcpStream) {
    let mut request = vec![];
    let mut more = [0; 8192];
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        match stream.read(&mut more).await {
            Ok(read) if read > 0 => request.extend_from_slice(&more[..read]),
            _ => return,
        }
    }
    let head = String::from_utf8_lossy(&request).into_owned();
    let answer = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{head}",
        head.len()
    );
    let _ = stream.write_all(answer.as_bytes()).await;
    let _ = stream.shutdown().await;
}
