mod crash;
mod directory;
mod early;
mod in_place;
mod keep;
mod race;
