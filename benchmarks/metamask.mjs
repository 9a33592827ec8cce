// MetaMask's controllers on one peer: arguments are the RPC's address, a key with coins and its account. Prints one object.

import { Messenger } from "@metamask/base-controller";
import { GasFeeController } from "@metamask/gas-fee-controller";
import { NetworkController } from "@metamask/network-controller";
import { TransactionController } from "@metamask/transaction-controller";

const ORIGIN = "chrome-extension://nkbihfbeogaeaoehlefnkodbefgpgknn";
const RECEIVER = `0x${"5e".repeat(20)}`;
const CONFIRM_MS = 60_000;
const [url, secret, account] = process.argv.slice(2);
const called = {};
const failed = [];
const elsewhere = [];

// As the extension does: with its origin. Whoever else is asked (a service of MetaMask's for fees) is not there.
const plain = globalThis.fetch;
globalThis.fetch = async (target, options = {}) => {
  if (!String(target?.url ?? target).startsWith(url)) {
    elsewhere.push(String(target));
    throw new Error("there is nobody else");
  }
  const headers = new Headers(options.headers);
  headers.set("origin", ORIGIN);
  const answer = await plain(target, { ...options, headers });
  const said = await answer.clone().text();
  for (const { method, params } of [options.body ? JSON.parse(options.body) : []].flat()) {
    called[method] = (called[method] ?? 0) + 1;
    if (said.includes('"error"')) failed.push([method, params, said]);
  }
  return answer;
};

// What other parts of the wallet would do: one account, and a user who agrees.
const messenger = new Messenger();
const one = { id: "one", address: account, type: "eip155:eoa", metadata: { keyring: { type: "HD Key Tree" } }, options: {}, methods: [] };
const others = {
  "AccountsController:getSelectedAccount": () => one,
  "AccountsController:getState": () => ({ internalAccounts: { accounts: { one }, selectedAccount: "one" } }),
  "ApprovalController:addRequest": async () => ({ value: {} }),
  "ErrorReportingService:captureException": (error) => failed.push(["reported", String(error)]),
  "RemoteFeatureFlagController:getState": () => ({ remoteFeatureFlags: {}, cacheTimestamp: 0 }),
};
for (const [name, handler] of Object.entries(others)) messenger.registerActionHandler(name, handler);
const part = (name, allowedActions, allowedEvents = []) => messenger.getRestricted({ name, allowedActions, allowedEvents });

const network = new NetworkController({
  messenger: part("NetworkController", ["ErrorReportingService:captureException"]),
  infuraProjectId: "none",
  getRpcServiceOptions: () => ({ fetch: globalThis.fetch, btoa: globalThis.btoa }),
  getBlockTrackerOptions: () => ({ pollingInterval: 1_000 }),
});
const asked = JSON.stringify({ id: 1, jsonrpc: "2.0", method: "eth_chainId", params: [] }); // as the form does
const { result: chainId } = await (await fetch(url, { method: "POST", headers: { "content-type": "application/json" }, body: asked })).json();
const rpcEndpoints = [{ type: "custom", url, name: "peer" }];
const added = network.addNetwork({ chainId, name: "flock", nativeCurrency: "FLK", blockExplorerUrls: [], defaultRpcEndpointIndex: 0, rpcEndpoints });
const networkClientId = added.rpcEndpoints[0].networkClientId;
await network.setActiveNetwork(networkClientId);
await network.lookupNetwork();
const isFeeMarket = await network.getEIP1559Compatibility(networkClientId);
const { provider, blockTracker } = network.getNetworkClientById(networkClientId);
await blockTracker.getLatestBlock();

const fees = new GasFeeController({
  messenger: part("GasFeeController", ["NetworkController:getState", "NetworkController:getNetworkClientById", "NetworkController:getEIP1559Compatibility"], ["NetworkController:networkDidChange"]),
  getProvider: () => provider, onNetworkDidChange: () => {}, getChainId: () => chainId, clientId: "extension",
  getCurrentNetworkEIP1559Compatibility: async () => isFeeMarket, getCurrentAccountEIP1559Compatibility: async () => true,
  getCurrentNetworkLegacyGasAPICompatibility: () => false, EIP1559APIEndpoint: "https://fees.invalid/<chain_id>", legacyAPIEndpoint: "https://fees.invalid/<chain_id>",
});
const transactions = new TransactionController({
  messenger: part("TransactionController", [...Object.keys(others).filter((name) => !name.startsWith("Error")), "NetworkController:findNetworkClientIdByChainId", "NetworkController:getNetworkClientById"], ["NetworkController:stateChange"]),
  disableHistory: true, disableSendFlowHistory: true, disableSwaps: true, transactionHistoryLimit: 40, hooks: {},
  getCurrentNetworkEIP1559Compatibility: async () => isFeeMarket, getCurrentAccountEIP1559Compatibility: async () => true,
  getGasFeeEstimates: (options) => fees.fetchGasFeeEstimates(options), getNetworkClientRegistry: () => network.getNetworkClientRegistry(),
  getNetworkState: () => network.state, getPermittedAccounts: async () => [account], incomingTransactions: { isEnabled: () => false },
  isSimulationEnabled: () => false, isFirstTimeInteractionEnabled: () => false,
  sign: async (transaction) => transaction.sign(Buffer.from(secret.slice(2), "hex")),
});
const latest = () => transactions.state.transactions[0];
const { result } = await transactions.addTransaction({ from: account, to: RECEIVER, value: "0x5" }, { networkClientId, origin: "metamask" });
await result;
for (const until = Date.now() + CONFIRM_MS; Date.now() < until && latest().status !== "confirmed";) await new Promise((done) => setTimeout(done, 200));
const received = await provider.request({ method: "eth_getBalance", params: [RECEIVER, "latest"] });
console.log(JSON.stringify({
  chainId, network: network.state.networksMetadata[networkClientId], status: latest().status, receipt: latest().txReceipt?.status,
  parameters: latest().txParams, received, called, elsewhere, failed,
}));
process.exit(0);
