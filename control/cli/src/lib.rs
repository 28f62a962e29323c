//! fulcrum: the command line, and ipvsadm's.
