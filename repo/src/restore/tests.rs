mod crash;
mod directory;
mod in_place;
mod keep;
mod race;
