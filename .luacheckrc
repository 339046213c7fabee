std = "luajit"
max_line_length = 120
-- busted's words, and room for sentences and tables of cases.
files["spec"] = { std = "+busted", max_line_length = 130 }
-- Declarations for editors: functions without bodies.
files["lua/shove/_meta"] = { ignore = { "21.", "241" }, max_line_length = 130 }
