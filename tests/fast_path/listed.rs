//! What a tool lists after frames that were carried: counters of native rules, IPVS's real servers.
