package render

// Confine lets a test's process take on what a worker takes on.
var Confine = confine
