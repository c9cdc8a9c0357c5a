package demo

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"
)

// content makes up what people write, from a seed. All of it is fictional: the
// phone numbers lie in no area that exists (code 00), the addresses in
// exemplo.invalid.
type content struct{ *rand.Rand }

var (
	firstNames = []string{"Ana", "João", "Maria", "José", "Luíza", "Antônio", "Conceição", "Thaís", "Otávio", "Íris",
		"Caetano", "Zélia", "Davi", "Lívia", "Ubirajara", "D'Ávila", "Âmbar", "Nuño"}
	lastNames = []string{"Silva", "Souza", "Araújo", "Gonçalves", "Magalhães", "Brandão", "Assunção", "de Sá", "Muñoz",
		"Lopes Filho", "dos Anjos", "Corrêa", "Leão", "Peçanha"}
	companies = []string{"Fibra Sertão", "Net Caatinga", "Ondas do Sul", "Conexão Pantanal", "Litoral Telecom",
		"Serra Azul Internet", "Vale Link", "Agreste Fibra"}
	channels  = []string{"whatsapp", "telegram", "webchat", "email", "instagram"}
	emojis    = []string{"😡", "😕", "😐", "🙂", "🤩"}
	questions = []string{
		"Bom dia! Minha internet caiu de novo, podem verificar?",
		"quero a 2ª via do boleto, por favor",
		"Qual o valor do plano de 600 mega??",
		"O técnico não apareceu ontem à tarde 😤",
		"Já reiniciei o roteador e a luz LOS continua vermelha",
		"Podem mudar o vencimento para o dia 10?",
		"obrigado!! 🙏🏽",
		"não entendi\nA fatura veio com \"multa\" e juros\ttudo junto?",
		`o arquivo está em C:\boletos\novembro\n.pdf`,
		"a chave é 50%_desconto; DROP TABLE planos; --",
		"Ok", " ", "\\N", "NULL", "👍",
	}
	answers = []string{
		"Olá! Vou verificar o seu sinal, só um momento.",
		"Encaminhei o boleto para o seu e-mail.",
		"Sua solicitação foi registrada. Protocolo nº %d.",
		"Reiniciamos a sua porta na OLT; pode testar novamente?",
		"Agradecemos o contato. Até logo! 😊",
		"O técnico irá amanhã entre 8h e 12h.",
	}
)

func pick[T any](c content, list []T) T { return list[c.IntN(len(list))] }

// chance is true once in n.
func (c content) chance(n int) bool { return c.IntN(n) == 0 }

func (c content) name() string { return pick(c, firstNames) + " " + pick(c, lastNames) }

// phone is unique for a number n.
func (c content) phone(n uint64) string { return fmt.Sprintf("+55009%09d", n%1e9) }

func (c content) email(name string) any {
	if c.chance(3) {
		return nil
	}
	user := strings.ToLower(strings.Join(strings.Fields(name), "."))
	return fmt.Sprintf("%s%d@exemplo.invalid", user, c.IntN(1000))
}

// inbound is a customer's message: mostly short, now and then empty, several
// kilobytes, or the Python repr that a careless str() leaves behind.
func (c content) inbound() string {
	switch c.IntN(40) {
	case 0:
		return ""
	case 1:
		return strings.Repeat(pick(c, questions)+"\n", 20+c.IntN(120))
	case 2:
		return fmt.Sprintf("{'type': 'image', 'caption': None, 'mime': 'image/jpeg', 'url': 'https://exemplo.invalid/%x', 'ok': True}", c.Uint32())
	}
	return pick(c, questions)
}

func (c content) reply() string {
	text := pick(c, answers)
	if strings.Contains(text, "%d") {
		text = fmt.Sprintf(text, c.IntN(1e6))
	}
	return text
}

// attributes is a JSON object as the application's jsonb columns hold them:
// small, nested, with the numbers and characters that a careless copy changes.
func (c content) attributes() string {
	switch c.IntN(8) {
	case 0:
		return "{}"
	case 1:
		return `{"etiquetas": ["urgente", "fibra óptica"], "valor": 99.90, "saldo": 1.00, "id_externo": 12345678901234567890}`
	case 2:
		return fmt.Sprintf(`{"origem": "whatsapp", "nota": null, "lida": %t, "ansi": "\u001b[31m", "barra": "a\\b/c", "aspas": "\"sim\""}`, c.chance(2))
	}
	return object("remote_jid", fmt.Sprintf("5500%09d@s.exemplo.invalid", c.IntN(1e9)), "push_name", c.name(),
		"cpf", fmt.Sprintf("000.000.%03d-%02d", c.IntN(1000), c.IntN(100)), "tentativas", c.IntN(9))
}

// large is a JSON object of 20 to 100 kB that doesn't compress, so that it is
// stored out of line and an update of other columns leaves it out of the WAL.
func (c content) large() string {
	raw := make([]byte, (20_000+c.IntN(80_000))/2)
	for i := range raw {
		raw[i] = byte(c.Uint32())
	}
	return object("webhook", map[string]any{"media": hex.EncodeToString(raw), "tipo": "áudio"}, "nome", c.name())
}

// object makes a JSON object of alternating keys and values.
func object(pairs ...any) string {
	m := make(map[string]any, len(pairs)/2)
	for i := 0; i < len(pairs); i += 2 {
		m[pairs[i].(string)] = pairs[i+1]
	}
	b, err := json.Marshal(m)
	if err != nil {
		panic(fmt.Sprintf("demo: an object can't be marshalled: %v", err)) // strings and numbers always can
	}
	return string(b)
}

// address is an address of the networks that are set aside for documentation.
func (c content) address() string {
	if c.chance(4) {
		return fmt.Sprintf("2001:db8::%x", c.IntN(1<<16))
	}
	return fmt.Sprintf("203.0.113.%d", c.IntN(256))
}

// past is a time up to a month before now.
func (c content) past(now time.Time) time.Time {
	return now.Add(-time.Duration(c.Int64N(int64(30 * 24 * time.Hour)))).Truncate(time.Microsecond)
}
