//! Captures: every format and link type we read, damage of every kind, round trips, and what tshark makes of
//! ours.

mod build;
mod damage;
mod formats;
mod links;
mod round_trip;
mod samples;
mod tshark;
