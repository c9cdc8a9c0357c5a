package web

import "github.com/walbridge/walbridge/internal/status"

var portuguese = words{
	Lang: "pt-BR", Other: "en", OtherName: "English",
	Point: ",", Thousands: ".", Days: "dias",
	AgoFormat: "há %s", ForFormat: "há %s",

	States: map[status.Phase]string{
		status.Starting: "iniciando", status.Copying: "copiando", status.Streaming: "acompanhando", status.Standby: "de reserva",
		status.Retrying: "tentando de novo", status.Blocked: "bloqueada", status.Stopped: "parada",
	},
	Idle: "Acompanhando a origem; o destino tem tudo.",
	Meanings: map[status.Phase]string{
		status.Starting:  "Verificando a origem e o destino, e preparando o que falta.",
		status.Copying:   "Copiando os registros que já existem; as mudanças já são acompanhadas.",
		status.Streaming: "Acompanhando a origem; o destino está alcançando.",
		status.Standby:   "Outra instância está trabalhando; esta assume quando aquela se calar.",
		status.Retrying:  "A origem ou o destino está fora; a ponte continua sozinha.",
		status.Blocked:   "Alguém precisa corrigir algo; depois disso a ponte continua sozinha.",
		status.Stopped:   "O processo está terminando.",
	},
	Todos: map[status.Phase]string{
		status.Retrying: "Nada a fazer aqui: veja se a origem e o destino podem ser alcançados e têm espaço.",
		status.Blocked:  "Faça o que diz a correção abaixo. Nada se perde enquanto isso: a origem guarda o WAL.",
		status.Stopped:  "Inicie-a de novo se ela deve continuar: ela retoma de onde parou.",
	},

	Bridge: "Ponte", Fix: "Correção", LastError: "Último erro, %s",
	Lost: "A ponte não responde. O que você vê é o que ela disse por último.",
	Lag:  "Atraso", RowRate: "Registros", TxRate: "Transações", Rows: "Registros aplicados", Entries: "Auditoria",
	Held: "Registros retidos", Dropped: "Registros descartados", Kept: "WAL guardado na origem", KeptShort: "WAL guardado", PerSecond: "%s /s",

	History: "Histórico", Recent: "15 min", Day: "24 h", Most: "no máximo %s", Now: "agora",
	HistoryBegins: "O histórico começa com o processo; ainda não há nenhum.",
	LagSeconds:    "Atraso em tempo", LagBytes: "Atraso em bytes", RowsPerSecond: "Registros por segundo",

	Copy: "Primeira cópia", CopyPace: "%s registros/s, faltam cerca de %s", Finished: "%s tabelas terminadas",
	RowsDone: "%s registros", RowsSoFar: "%s registros até agora", RowsOfAbout: "%s de cerca de %s registros", RowsOf: "%s de %s registros",

	Request: "Pedido %s", RequestText: "%s registros examinados", RequestWritten: "%s alterados",
	RequestAll: map[string]string{"forget": "registros apagados: %s", "skip": "mudanças deixadas de fora: %s"},
	Kinds: map[string]string{
		"resync": "Resync: a origem é lida de novo, e o que difere é gravado",
		"repair": "Reparo: registros que diferem são lidos de novo e gravados", "held.retry": "Registros retidos são tentados de novo",
		"held.drop": "Registros retidos são abandonados", "forget": "Um registro é apagado em toda parte", "skip": "Uma transação é pulada",
	},
	Steps: map[string]string{
		"rows": "comparando registros", "gone": "procurando registros que se foram", "held": "examinando registros retidos",
		"paths": "examinando valores de caminhos", "entries": "gravando entradas", "repair": "comparando registros",
	},

	HeldRows: "Registros retidos por motivo", HeldMore: "E mais %s que não foram contados.",
	Reasons: map[string]string{
		"tenant": "sem provedor", "rejected": "recusados pelo destino", "incomplete": "incompletos",
	},
	ReasonFix: map[string]string{
		"tenant":     "Eles vêm sozinhos quando a origem disser de quem são. walbridge held list --reason tenant diz quais são.",
		"rejected":   "walbridge held list --reason rejected diz por quê; corrija o destino e rode walbridge held retry.",
		"incomplete": "Nada a fazer: os valores que faltam estão sendo lidos da origem.",
	},

	Tables: "Tabelas da origem", Table: "Tabela", SinceStart: "Registros desde o início", HeldColumn: "Retidos", Idlers: "%s tabelas sem mudança",
	Tenants: "Provedores mais ativos", Tenant: "Provedor", OtherTenants: "todos os outros",

	Source: "Na origem", Slot: "Slot", Level: "Nível", Safe: "perdido depois de mais %s",
	Checkpoint: "Checkpoint", Flushed: "Origem", Confirmed: "Confirmado", Blocked: "Bloqueada em",
	WALStatus: map[string]string{
		"reserved": "reserved: tudo como deve ser", "extended": "extended: guarda-se mais WAL que max_wal_size",
		"unreserved": "unreserved: prestes a se perder", "lost": "lost: rode walbridge resync",
		"dropped": "descartado em source.max_retained_wal: rode walbridge resync",
	},
	Levels: map[string]string{"ok": "ok", "warning": "aviso", "alarm": "alarme"},

	Errors: "Últimos erros", NoErrors: "Nenhum desde o início do processo.", Times: "%s vezes seguidas", Older: "%s mais antigos",
	InEnglish: "As mensagens são em inglês, como no log.",
	Guide:     "O que cada estado significa e o que fazer: docs/operations.pt-BR.md, ou walbridge status na linha de comando.",
}
