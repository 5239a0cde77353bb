package uplink

// Before exports before.
var Before = before
