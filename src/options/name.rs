//! The names of the options, and what each means for this program.

/// Declares the names once: the enum, the list of all, and both ways between name and text.
macro_rules! names {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// An option that hosts are known to set (tclodefs.h, powerops.h, timesync.h).
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Name {
            $($(#[$doc])* $name,)*
        }

        impl Name {
            /// Every known name.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The name as the host writes it.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }
        }
    };
}

names! {
    /// `1`: publish the primary address now, each time it is set, also when it was `1` before. `0`: nothing.
    BroadcastIp = "broadcastIP",
    /// The host wants the tools to keep the clock. No effect: Talos's NTP client keeps it.
    SyncTime = "synctime",
    /// Seconds between two corrections, 0 for 60. No effect, as there are none.
    SyncTimePeriod = "synctime.period",
    /// The host's master switch of time synchronisation. No effect.
    TimeAllow = "time.synchronize.allow",
    /// A step of the clock when [`Self::SyncTime`] is switched on. No effect.
    TimeToolsEnable = "time.synchronize.tools.enable",
    /// A step of the clock at the tools' start; a stock VM sends `1`. No effect.
    TimeToolsStartup = "time.synchronize.tools.startup",
    /// Whether that step may go backward. No effect.
    TimeToolsStartupBackward = "time.synchronize.tools.startup.backward",
    /// Slew instead of steps. No effect.
    TimeToolsSlewCorrection = "time.synchronize.tools.slewCorrection",
    /// Per cent of the error that is slewed away in one period, 1 to 100. No effect.
    TimeToolsPercentCorrection = "time.synchronize.tools.percentCorrection",
    /// Ask the guest's own time service to synchronise. No effect, and none in open-vm-tools on Linux.
    TimeGuestResync = "time.synchronize.guest.resync",
    /// How long that may take. No effect.
    TimeGuestResyncTimeout = "time.synchronize.guest.resync.timeout",
    /// Run the script after power-on. No effect: there are no scripts, and the operation is carried out either way.
    ScriptAfterPowerOn = "toolScripts.afterPowerOn",
    /// Run the script before power-off or restart. No effect.
    ScriptBeforePowerOff = "toolScripts.beforePowerOff",
    /// Run the script after a resume. No effect.
    ScriptAfterResume = "toolScripts.afterResume",
    /// Run the script before a suspend. No effect.
    ScriptBeforeSuspend = "toolScripts.beforeSuspend",
    /// A shared clipboard. No effect: there is no desktop.
    CopyPaste = "copypaste",
    /// A taskbar that hides. No effect.
    AutoHide = "autohide",
    /// Drag and drop. No effect.
    EnableDnd = "enableDnD",
    /// Mount the root of the shared folders. No effect: nothing is shared.
    MapRootHgfsShare = "mapRootHgfsShare",
    /// Link the root of the shared folders. No effect.
    LinkRootHgfsShare = "linkRootHgfsShare",
    /// A tunnel for a message bus. No effect: no port is opened.
    EnableMessageBusTunnel = "enableMessageBusTunnel",
    /// The level of the log that goes to the host. It makes the log tell the whole state, and can make it more talkative,
    /// up to debug; the node's own setting is the least that is said.
    GuestLogLevel = "guestLogLevel",
    /// Whether lists of applications and containers may be published. Whoever publishes such a
    /// list asks before each report: `0` ends them.
    EnableAppInfo = "enableAppInfo",
    /// Downloads from the GuestStore. No effect.
    EnableGuestStoreAccess = "enableGuestStoreAccess",
    /// Windows only. No effect.
    EnableDeviceHelper = "enableDeviceHelper",
}

impl Name {
    /// The option of this name, compared byte by byte as hosts do; `None` if it is not known.
    pub fn parse(name: &[u8]) -> Option<Self> {
        Self::ALL
            .iter()
            .copied()
            .find(|known| known.as_str().as_bytes() == name)
    }
}
