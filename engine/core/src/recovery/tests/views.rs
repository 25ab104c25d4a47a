//! The pure step, asked with states and facts drawn at random.
