package uplink

// Older exports older.
var Older = older
