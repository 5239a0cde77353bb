package broker

// Connections counts those of agents to the embedded server.
func (b *Broker) Connections() int {
	account, err := b.server.LookupAccount(b.claims.agents.Subject)
	if err != nil {
		return 0
	}
	const own = 1 // the hub's
	return max(0, account.NumLocalConnections()-own)
}
