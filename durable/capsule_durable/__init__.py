"""The durable backend: functions, bridge, session, engine. Knows neither ZMQ nor the user's code."""
