//! The two sockets.

use super::*;

#[tokio::test]
async fn the_socket_is_as_on_a_node() {
    let lab = lab(Release::V1_14).await;
    let file = fs::metadata(&lab.socket).unwrap();
    assert_eq!(file.permissions().mode() & 0o777, 0o755);
    let directory = fs::metadata(lab.socket.parent().unwrap()).unwrap();
    assert_eq!(directory.permissions().mode() & 0o777, 0o771);
    if nix::unistd::geteuid().is_root() {
        assert_eq!((file.uid(), file.gid()), (50, 50));
    }
    let control = fs::metadata(&lab.control).unwrap();
    assert_eq!(control.permissions().mode() & 0o777, 0o600);
    lab.node.shutdown().await;
}

#[tokio::test]
async fn a_stale_file_is_replaced_and_a_live_one_is_not() {
    let lab = lab(Release::V1_14).await;
    let config = |socket: PathBuf| Config {
        socket,
        control: None,
        release: None,
        source: Source::Script(Box::new(Script::bare())),
    };
    let Err(error) = Node::start(config(lab.socket.clone())).await else {
        panic!("two nodes on one socket");
    };
    assert!(error.to_string().contains("somebody listens there"), "{error}");
    let stale = lab.socket.with_file_name("stale.sock");
    drop(std::os::unix::net::UnixListener::bind(&stale).unwrap());
    assert!(stale.exists());
    Node::start(config(stale)).await.unwrap().shutdown().await;
    lab.node.shutdown().await;
}

#[tokio::test]
async fn the_control_socket_answers_each_line_with_json() {
    let lab = lab(Release::V1_12).await;
    let stream = soon(UnixStream::connect(&lab.control)).await.unwrap();
    let (reader, mut writer) = stream.into_split();
    let mut lines = BufReader::new(reader).lines();
    let mut ask = async |line: &str| -> Value {
        soon(writer.write_all(format!("{line}\n").as_bytes()))
            .await
            .unwrap();
        serde_json::from_str(&soon(lines.next_line()).await.unwrap().unwrap()).unwrap()
    };
    assert_eq!(ask("link up eth0").await["ok"], true);
    let told = soon(lab::node::control::tell(&lab.control, "calls"))
        .await
        .unwrap();
    assert_eq!(told, serde_json::json!({ "ok": true, "calls": [] }));
    let answer = ask("link up eth9").await;
    assert_eq!(answer["ok"], false);
    assert_eq!(
        answer["error"],
        "resource LinkStatuses.net.talos.dev(network/eth9) doesn't exist"
    );
    assert_eq!(ask("nonsense").await["error"], "\"nonsense\" is no command");
    let answer = ask("expect call Shutdown within 10ms").await;
    assert_eq!(
        answer["error"],
        "0 calls of Shutdown match within 10ms, expected at least 1"
    );
    assert_eq!(ask("expect no call Shutdown for 10ms").await["ok"], true);
    let state = ask("state").await;
    assert_eq!(
        (&state["talos"], &state["listening"]),
        (&"1.12".into(), &true.into())
    );
    let resources = state["resources"].as_array().unwrap();
    assert!(
        resources
            .iter()
            .any(|resource| resource["id"] == "eth0/10.5.0.2/24")
    );
    soon(lab.machine().version(read(()))).await.unwrap();
    assert_eq!(ask("calls Version").await["calls"][0]["roles"][0], "os:reader");
    assert_eq!(ask("expect no call Version for 1s").await["ok"], false);
    assert_eq!(ask("reset-calls").await["ok"], true);
    assert_eq!(ask("calls").await["calls"], Value::Array(Vec::new()));
    let document = r#"resource put {"type":"MetaKeys.runtime.talos.dev","id":"0x0c","spec":{"value":"v"}}"#;
    assert_eq!(ask(document).await["ok"], true);
    lab.node.shutdown().await;
}
