// A client as `openapi-typescript` types it, against a running engine: node smoke.js URL
import createClient from "openapi-fetch";
import type { components, paths, webhooks } from "./api.js";

declare const process: { argv: string[] };

type Message = webhooks["fault"]["post"]["requestBody"]["content"]["application/json"];

function expect(found: unknown, expected: unknown): void {
  if (found !== expected) throw new Error(`${String(found)} is not ${String(expected)}`);
}

export function told(message: Message): string {
  return `${message.type}: ${message.data.vehicleId ?? message.data.site ?? "?"}`;
}

const client = createClient<paths>({ baseUrl: process.argv[2] ?? "" });
const vehicleId = "TS-1";

// Optional fields may be left out, or null; others may not.
const readings: components["schemas"]["VehicleReading"][] = [
  { vehicleId, kwhDeliveredDc: 4 },
  { vehicleId, kwhDeliveredDc: 1.5, soc: 81, timestamp: new Date().toISOString() },
];
// @ts-expect-error
const incomplete: components["schemas"]["VehicleReading"] = { vehicleId };

const stored = await client.POST("/v1/ingest/vehicle", { body: readings });
expect(stored.response.status, 201);
expect(stored.data?.accepted, 2);

const window = { path: { vehicleId }, query: { window: "1h" } };
const figure = await client.GET("/v1/analytics/performance/{vehicleId}", { params: window });
expect(figure.data?.energyDeliveredDc, 5.5);

const refused = await client.POST("/v1/ingest/vehicle", { body: incomplete });
expect(refused.error?.code, "rejected");
expect(refused.error?.errors[0]?.code, "missing");
expect("rejected" in refused.error! && refused.error.rejected, 1);

const unknown = await client.GET("/v1/status/vehicle/{vehicleId}", {
  params: { path: { vehicleId: "TS-2" } },
});
expect(unknown.error?.statusCode, 404);
