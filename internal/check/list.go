package check

// checks lists all checks in the order in which they are made: what one finds out
// is there for those after it.
func checks(api bool) []Check {
	list := []Check{
		{"settings", Settings, 0, settingsCheck},
		{"file", Mapping, 0, fileCheck},
		{"url", Source, 0, urlCheck(source)},
		{"connect", Source, 0, connectCheck(source)},
	}
	if api {
		list = append(list, []Check{
			{"key", Target, 0, keyCheck},
			{"connect", Target, 0, apiCheck},
			{"functions", Target, needTarget, functionsCheck},
		}...)
	} else {
		list = append(list, []Check{
			{"url", Target, 0, urlCheck(target)},
			{"connect", Target, 0, connectCheck(target)},
		}...)
	}
	list = append(list, Check{"tables", Mapping, needFile | needSource, mappingCheck})
	for _, name := range gateChecks {
		list = append(list, Check{name.check, Source, needSource, gateCheck(name.check, name.why)})
	}
	return append(list, []Check{
		{"stream", Source, needSource, streamCheck},
		{"encoding", Source, needSource, encodingCheck(source)},
		{"clock", Source, needSource, clockCheck(source)},
		{"logging", Source, needSource, loggingCheck(source)},
		{"wal_keep", Source, needSource, walKeepCheck},
		{"sender_timeout", Source, needSource, senderTimeoutCheck},
		{"slot", Source, needSource, slotCheck},
		{"transactions", Source, needSource, transactionsCheck},
		{"identity", Source, needSource | needFile, identityCheck},
		{"row_security", Source, needSource | needFile, sourceSecurityCheck},
		{"select", Source, needSource | needFile, selectCheck},
		{"publication", Source, needSource, publicationCheck},

		{"standby", Target, needTarget, standbyCheck},
		{"encoding", Target, needTarget, encodingCheck(target)},
		{"clock", Target, needTarget, clockCheck(target)},
		{"logging", Target, needTarget, loggingCheck(target)},
		{"tables", Target, needTarget | needMapping, tablesCheck},
		{"create", Target, needTarget | needFile | needConnection, createCheck},
		{"write", Target, needTarget | needFile, writeCheck},
		{"private", Target, needTarget, privateCheck},
		{"row_security", Target, needTarget | needFile, targetSecurityCheck},
		{"triggers", Target, needTarget | needFile, triggersCheck},
		{"foreign_keys", Target, needTarget | needFile, foreignKeysCheck},
		{"exposure", Target, needTarget | needFile, exposureCheck},
		{"access", Target, needTarget | needFile, accessCheck},
		{"realtime", Target, needTarget | needMapping, realtimeCheck},
		{"history", Target, needSource | needTarget | needMapping, historyCheck},
	}...)
}

// source and target choose a side.
func source(e *Env) *side { return e.source }
func target(e *Env) *side { return e.target }
