//! Seeded values of every kind that crosses the wire, and ways to damage them. Tests only.
