//! Every step of the message layer, in both bandwidths and on both kinds of channel, struck by a soft and by a hard
//! checkpoint: one generated scenario for each bandwidth and kind of channel.
//!
//! Soft: the step is answered CPT, the channel lives; a step that carries or acknowledges bytes is done again in place.
//! Hard: all channels are gone. Either way the host is told everything again and a request afterwards is answered.
//! An OPEN that a hard one strikes is refused, and the other channel is gone with it.

use std::fmt::Write;

/// Bandwidths: a name, the host's options, and its two payload steps, each with the occurrence that is struck. By words
/// it is the second word, in the middle of a message.
pub const BANDWIDTHS: [(&str, &[&str], &str, &str); 2] = [
    ("high", &[], "hbout", "hbin"),
    ("low", &["--no-hb"], "sendpayload", "recvpayload"),
];

/// The kinds of channel.
pub const CHANNELS: [&str; 2] = ["rpci", "tclo"];

/// The scenario of one bandwidth and one kind of channel.
pub fn scenario(channel: &str, out: &str, into: &str) -> String {
    let occurrence = if out == "hbout" { "nth 1" } else { "nth 2" };
    let steps = [
        ("open", "nth 1"),
        ("sendsize", "nth 1"),
        (out, occurrence),
        ("recvsize", "nth 1"),
        (into, occurrence),
        ("recvstatus", "nth 1"),
        ("close", "nth 1"),
    ];
    let mut text = String::from("set ping off\nset broadcast off\nexpect running within 20s\nask \"ping\"\n");
    for (step, occurrence) in steps {
        for effect in ["status CPT", "lose-all"] {
            let in_place = effect == "status CPT" && [out, into, "recvstatus"].contains(&step);
            let mut line = |line: &str| {
                let _ = writeln!(text, "{line}");
            };
            // What the daemon still has to say, and its quick polls, must not meet the fault before it is looked for.
            line("wait 500ms");
            line(&format!("fault {step} {channel} {occurrence} {effect}"));
            match step {
                "open" => line("close"),
                // The daemon closes a channel that failed and that the host still has.
                "close" => {
                    line(&format!("fault sendsize {channel} status 0"));
                    line("reset");
                }
                _ => line("reset"),
            }
            line(&format!("expect fault \"{step}:\" within 5s"));
            line("expect rpci \"tools.set.versiontype\" within 15s");
            line("expect rpci \"SetGuestInfo  10 \" within 15s");
            line("expect running within 15s");
            if in_place {
                line("expect no close rpci");
                line("expect no close tclo");
            }
            line("ask \"ping\"");
            line("expect reply \"OK \"");
        }
    }
    text.push_str("expect heartbeat green\nexpect no violation any\n");
    text
}
