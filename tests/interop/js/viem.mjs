// Uses a peer as viem users do, over HTTP and WebSocket, and prints what it got, a JSON object a line.
// Arguments: HTTP address, WebSocket address, private key, contract, its ABI (a file), a newcomer, the deposit in wei.
import { readFileSync } from 'node:fs'
import {
  BaseError, ContractFunctionRevertedError, createPublicClient, createWalletClient, defineChain, http, webSocket
} from 'viem'
import { privateKeyToAccount } from 'viem/accounts'

const [url, ws, secret, address, abiFile, newcomer, deposit] = process.argv.slice(2)
const abi = JSON.parse(readFileSync(abiFile, 'utf8'))
const report = (what) => process.stdout.write(JSON.stringify(what, (_, v) => typeof v === 'bigint' ? v.toString() : v) + '\n')

const probe = createPublicClient({ transport: http(url) })
const chain = defineChain({
  id: await probe.getChainId(), name: 'flock', nativeCurrency: { name: 'coin', symbol: 'COIN', decimals: 18 },
  rpcUrls: { default: { http: [url] } }
})
const account = privateKeyToAccount(secret)
const reader = createPublicClient({ chain, transport: http(url, { batch: true }), pollingInterval: 100 })
const writer = createWalletClient({ account, chain, transport: http(url) })
const [height, balance, amount] = await Promise.all([ // one batch
  reader.getBlockNumber(), reader.getBalance({ address: account.address }),
  reader.readContract({ address, abi, functionName: 'amount' })
])
report({ chain: chain.id, height, balance, amount })
const call = { address, abi, functionName: 'drip', args: [newcomer], account }
try {
  await reader.simulateContract({ ...call, value: 1n })
} catch (error) {
  const revert = error instanceof BaseError && error.walk((each) => each instanceof ContractFunctionRevertedError)
  report({ refused: revert.reason })
}

const live = createPublicClient({ chain, transport: webSocket(ws) })
const heads = [], followed = []
const stop = live.watchBlocks({ onBlock: (block) => heads.push(block.number) })
const stopLogs = live.watchContractEvent({ address, abi, eventName: 'Dripped', onLogs: (logs) => followed.push(...logs) })
await live.getBlockNumber() // the subscriptions were sent before it

const { request } = await reader.simulateContract({ ...call, value: BigInt(deposit) })
const hash = await writer.writeContract(request)
const receipt = await reader.waitForTransactionReceipt({ hash })
const block = await reader.getBlock({ blockNumber: receipt.blockNumber, includeTransactions: true })
report({
  hash, status: receipt.status, type: receipt.type, gasUsed: receipt.gasUsed, height: receipt.blockNumber,
  served: await reader.getBalance({ address: newcomer }), types: block.transactions.map((each) => each.typeHex)
})
const gone = await writer.writeContract({ ...call, value: BigInt(deposit), gas: 300000n })
report({ failed: (await reader.waitForTransactionReceipt({ hash: gone })).status })
const logs = await reader.getContractEvents({ address, abi, eventName: 'Dripped', args: { newcomer }, fromBlock: 0n })
report({ logs: logs.map((log) => ({ who: log.args.newcomer, amount: log.args.amount })) })
const fees = await reader.getFeeHistory({ blockCount: 4, rewardPercentiles: [25, 75] })
report({ fees: fees.baseFeePerGas.length, rewards: fees.reward.length })
const filter = await reader.createBlockFilter()
await writer.sendTransaction({ to: newcomer, value: 1n }).then((hash) => reader.waitForTransactionReceipt({ hash }))
report({ polled: (await reader.getFilterChanges({ filter })).length })
while (!followed.length || !heads.includes(receipt.blockNumber)) await new Promise((resolve) => setTimeout(resolve, 20))
report({ heads, followed: followed.map((log) => ({ who: log.args.newcomer, hash: log.transactionHash })) })
stop()
stopLogs()
process.exit(0)
