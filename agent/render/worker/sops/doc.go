// Package sops reads files that SOPS encrypted: it recognizes them, says which
// keys hold their data key, decrypts their values with it, and checks that
// nobody changed them since. It is pure, and knows no private key: whoever calls
// it gets the data key from somebody else.
//
// SOPS' own library is not linked, because it links every cloud's client, and
// this runs where hostile files are read. Whatever is understood otherwise than
// SOPS does fails by the message authentication code; the tests encrypt with the
// library and compare.
package sops
