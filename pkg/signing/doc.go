// Package signing makes and checks the two kinds of signature Capstan lives by.
//
// People sign approvals with the SSH keys they have: the signature is OpenSSH's
// SSHSIG, as `ssh-keygen -Y sign` makes it, and a spoke checks it against keys
// pinned there in OpenSSH's allowed_signers format. Agents sign plans with
// their Ed25519 nkey, so that who approves knows that no hub altered them.
//
// Everything here decodes what a stranger may have written: decoding is
// strict, and what is signed is the exact bytes, which must be canonical.
package signing
