// Uses a peer as ethers v6 users do, over HTTP and WebSocket, and prints what it got, a JSON object a line.
// Arguments: HTTP address, WebSocket address, private key, contract, its ABI (a file), a newcomer, the deposit in wei.
import { readFileSync } from 'node:fs'
import { Contract, JsonRpcProvider, Wallet, WebSocketProvider } from 'ethers'

const [http, ws, secret, address, abiFile, newcomer, deposit] = process.argv.slice(2)
const abi = JSON.parse(readFileSync(abiFile, 'utf8'))
const report = (what) => process.stdout.write(JSON.stringify(what, (_, v) => typeof v === 'bigint' ? v.toString() : v) + '\n')

// ethers remembers answers for 250 ms unless told not to; a block here can be final sooner, and its nonce then is used.
const provider = new JsonRpcProvider(http, undefined, { polling: true, pollingInterval: 100, cacheTimeout: -1 })
const wallet = new Wallet(secret, provider)
const faucet = new Contract(address, abi, wallet)
const network = await provider.getNetwork()
report({ chain: network.chainId, height: await provider.getBlockNumber(), client: await provider.send('web3_clientVersion', []) })
report({ balance: await provider.getBalance(wallet.address), amount: await faucet.amount() })
try {
  await faucet.drip.staticCall(newcomer, { value: 1n })
} catch (error) {
  report({ refused: error.reason, code: error.code })
}
try {
  await faucet.drip(newcomer, { value: 1n }) // the gas estimate says no
} catch (error) {
  report({ estimate: error.reason, action: error.action })
}

const socket = new WebSocketProvider(ws)
const heads = [], followed = []
const live = new Contract(address, abi, socket)
await socket.on('block', (number) => heads.push(number))
await live.on('Dripped', (who, submitter, amount, left, event) => followed.push({ who, amount, hash: event.log.transactionHash }))
await socket.getBlockNumber() // the subscriptions were sent before it

const sent = await faucet.drip(newcomer, { value: BigInt(deposit) })
const receipt = await sent.wait()
const block = await provider.getBlock(receipt.blockNumber, true)
report({
  hash: sent.hash, status: receipt.status, type: sent.type, gasUsed: receipt.gasUsed, height: receipt.blockNumber,
  from: receipt.from, index: receipt.index, types: block.prefetchedTransactions.map((each) => each.type),
  served: await provider.getBalance(newcomer), named: (await provider.getTransaction(sent.hash)).from
})
try {
  const again = await faucet.drip(newcomer, { value: BigInt(deposit), gasLimit: 300000n })
  await again.wait()
} catch (error) {
  report({ failed: error.code, reverted: error.receipt.status })
}
const found = await faucet.queryFilter(faucet.filters.Dripped(newcomer), 0, 'latest')
report({ logs: found.map((log) => ({ who: log.args.newcomer, amount: log.args.amount })) })
const fees = await provider.getFeeData()
report({ fee: fees.maxFeePerGas, tip: fees.maxPriorityFeePerGas })
try {
  await wallet.sendTransaction({ to: newcomer, value: 1n, nonce: 0, gasLimit: 21000n })
} catch (error) {
  report({ nonce: error.code })
}
try {
  await wallet.sendTransaction({ to: newcomer, value: 10n ** 30n, gasLimit: 21000n })
} catch (error) {
  report({ funds: error.code, message: error.message })
}
while (!followed.length || !heads.includes(receipt.blockNumber)) await new Promise((resolve) => setTimeout(resolve, 20))
report({ heads, followed })
await socket.destroy()
provider.destroy()
