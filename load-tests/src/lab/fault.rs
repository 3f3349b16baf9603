//! The faults that the lab injects, and the end that each must have. Injects none itself.

use std::time::Duration;

use pulsegate::core::record::EndReason;

/// Deadline from a death until both stores show it, under any load (`docs/design.md` §2).
pub const FOUND_WITHIN: Duration = Duration::from_secs(15);

/// A fault of one gateway, its sessions or its target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The browsers neither read nor answer any more.
    ClientsVanish,
    /// The target is killed.
    TargetDies,
    /// The target is stopped for good.
    TargetFallsSilent,
    /// The gateway is killed and restarted.
    GatewayDies,
    /// The target is stopped for a moment.
    TargetHesitates,
    /// The gateway is stopped for a while.
    GatewayStandsStill,
    /// No packet comes through between gateway and stores for a while.
    StoresCutOff,
    /// No packet of the stores reaches the gateway for a while; they get those of the gateway.
    StoresUnheard,
    /// None of its own.
    Nothing,
}

/// All faults.
pub const ALL: [Fault; 9] = [
    Fault::ClientsVanish,
    Fault::TargetDies,
    Fault::TargetFallsSilent,
    Fault::GatewayDies,
    Fault::TargetHesitates,
    Fault::GatewayStandsStill,
    Fault::StoresCutOff,
    Fault::StoresUnheard,
    Fault::Nothing,
];

/// Faults that are also injected with slow stores. Of a killed gateway, the time is counted from the start of the next
/// process: before it, nobody can know. That start asks for schema, lease and epoch, one slow answer after the other.
pub const BEHIND_SLOW_STORES: [Fault; 6] = [
    Fault::ClientsVanish,
    Fault::TargetDies,
    Fault::TargetFallsSilent,
    Fault::GatewayDies,
    Fault::TargetHesitates,
    Fault::GatewayStandsStill,
];

impl Fault {
    /// Returns its name in the report.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ClientsVanish => "clients vanish",
            Self::TargetDies => "target killed",
            Self::TargetFallsSilent => "target stopped for good",
            Self::GatewayDies => "gateway killed",
            Self::TargetHesitates => "target stopped for a moment",
            Self::GatewayStandsStill => "gateway stopped for a while",
            Self::StoresCutOff => "stores cut off for a while",
            Self::StoresUnheard => "stores unheard for a while",
            Self::Nothing => "stores stopped for a while",
        }
    }

    /// Returns the reason with which the fault ends its sessions; `None` if they must live.
    pub fn ends_as(self) -> Option<EndReason> {
        match self {
            Self::ClientsVanish => Some(EndReason::DetachExpired),
            Self::TargetDies => Some(EndReason::PeerClosed),
            Self::TargetFallsSilent => Some(EndReason::PeerLost),
            Self::GatewayDies => Some(EndReason::NodeLost),
            Self::TargetHesitates
            | Self::GatewayStandsStill
            | Self::StoresCutOff
            | Self::StoresUnheard
            | Self::Nothing => None,
        }
    }
}
