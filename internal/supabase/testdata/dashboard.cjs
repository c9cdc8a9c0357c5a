// What the hooks and components of NioChat's guide ask for, with supabase-js. Prints
// one line of JSON for each: its name, and the rows or the error.
const { createClient } = require('@supabase/supabase-js')

const supabase = createClient(process.env.SUPABASE_URL, process.env.SUPABASE_ANON_KEY, {
  accessToken: async () => process.env.TOKEN || null,
  // Realtime isn't asked for here, and older releases of node have no WebSocket.
  realtime: { transport: class {} },
})

const queries = {
  conversations: s => s.from('conversations').select('id, status, provedor_id').order('id'),
  open: s => s.from('conversations').select('*').eq('status', 'open').order('created_at', { ascending: false }).limit(10),
  foreign: s => s.from('conversations').select('*').eq('provedor_id', 8),
  messages: s => s.from('messages').select('*').eq('conversation_id', 1).order('created_at'),
  dashboard_metrics: s => s.from('dashboard_metrics').select('*'),
  csat_metrics: s => s.from('csat_metrics').select('*'),
  audit_logs: s => s.from('audit_logs').select('action').order('timestamp', { ascending: false }).limit(50),
  alerts: s => s.from('conversation_alerts').select('conversation_id, kind'),
}

async function main() {
  for (const [name, query] of Object.entries(queries)) {
    const { data, error } = await query(supabase)
    console.log(JSON.stringify({ name, rows: data, error: error && error.code }))
  }
}
main().catch(e => { console.error(e); process.exit(1) })
