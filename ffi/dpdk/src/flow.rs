//! Rules by which a device brings packets to a queue (rte_flow).

use std::ffi::{CStr, c_char};
use std::net::IpAddr;
use std::ptr::{self, NonNull};
use std::sync::{Arc, Weak};

use fulcrum_dpdk_sys as sys;

use crate::port::{Port, PortError};

/// What a rule brings where.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FlowRule {
    /// Destination address.
    pub address: IpAddr,
    /// IP protocol: TCP's or UDP's number.
    pub protocol: u8,
    /// Destination port, where the mask has ones.
    pub port: u16,
    /// Bits of the port that count.
    pub port_mask: u16,
    /// The queue.
    pub queue: u16,
}

/// A rule that a device keeps, until it is told otherwise or closed.
#[derive(Debug)]
pub struct Flow {
    raw: NonNull<sys::rte_flow>,
    /// The lease of the port that made it: numbers of ports are used again.
    port: Weak<()>,
}

// SAFETY: a handle that is not tied to a thread: what it stands for is only reached through `&mut Port`, by one thread
// at a time.
unsafe impl Send for Flow {}

impl FlowRule {
    fn raw(&self) -> sys::fulcrum_flow {
        let mut address = [0; 16];
        match self.address {
            IpAddr::V4(v4) => address[..4].copy_from_slice(&v4.octets()),
            IpAddr::V6(v6) => address = v6.octets(),
        }
        sys::fulcrum_flow {
            v6: self.address.is_ipv6(),
            address,
            protocol: self.protocol,
            port: self.port,
            port_mask: self.port_mask,
            queue: self.queue,
        }
    }
}

impl Port {
    /// Whether the device would take a rule, as far as its driver can tell.
    pub fn validate_flow(&self, rule: &FlowRule) -> Result<(), PortError> {
        self.flow(rule, ptr::null_mut())
    }

    /// Has the started device keep a rule.
    pub fn add_flow(&mut self, rule: &FlowRule) -> Result<Flow, PortError> {
        let mut made = ptr::null_mut();
        self.flow(rule, &mut made)?;
        let raw = NonNull::new(made);
        raw.map(|raw| Flow { raw, port: Arc::downgrade(self.lease()) })
            .ok_or_else(|| self.refusal("makes no rule", -1))
    }

    /// Takes a rule away from the device that keeps it.
    pub fn remove_flow(&mut self, flow: Flow) -> Result<(), PortError> {
        if !flow.port.upgrade().is_some_and(|port| Arc::ptr_eq(&port, self.lease())) {
            return Err(self.refusal("does not have the rule", -1));
        }
        // SAFETY: the port exists and made the rule, which is not used after this.
        self.check("keeps a rule", unsafe { sys::fulcrum_port_unflow(self.id(), flow.raw.as_ptr()) })
    }

    fn flow(&self, rule: &FlowRule, made: *mut *mut sys::rte_flow) -> Result<(), PortError> {
        let mut why: [c_char; 128] = [0; 128];
        // SAFETY: the port exists; the rule is only read, `made` is null or writable, and the text has its size.
        let status =
            unsafe { sys::fulcrum_port_flow(self.id(), &rule.raw(), made, why.as_mut_ptr(), why.len()) };
        self.check("takes no such rule", status).map_err(|error| {
            // SAFETY: the shim ends the text with a zero inside the array.
            let why = unsafe { CStr::from_ptr(why.as_ptr()) }.to_string_lossy().into_owned();
            match error {
                PortError::Setup { device, step, complaints, .. } if !why.is_empty() => {
                    PortError::Setup { device, step, reason: why, complaints }
                }
                error => error,
            }
        })
    }
}
