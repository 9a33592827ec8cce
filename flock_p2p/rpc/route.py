"""The RPC as a route of the HTTP server: POST for requests, a WebSocket for requests and subscriptions."""

import trio

from flock_chain.errors import FlockError
from flock_p2p.rpc.endpoint import MAX_REQUEST_BYTES, Endpoint
from flock_p2p.rpc.errors import RpcError
from flock_p2p.rpc.methods import Methods
from flock_p2p.rpc.sources import Sources
from flock_p2p.rpc.subscriptions import Follower, TooSlow
from flock_p2p.web.messages import BrokenSocket, Request, Response, Route, Socket

JSON = "application/json"


class RpcRoute:
    def __init__(self, sources: Sources) -> None:
        self._sources = sources
        self._methods = Methods(sources)
        self.endpoint = Endpoint(lambda: self._methods.long_seconds)

    def make(self) -> Route:
        return Route({"POST": self._post}, converse=self._converse, for_wallets=True, max_body=MAX_REQUEST_BYTES)

    async def _post(self, request: Request) -> Response:
        """JSON alone: what a form of a stranger's page can send without asking is no JSON by its type."""
        if not request.headers.get("content-type", JSON).lower().startswith(JSON):
            return Response(400, b"the body is application/json\n")
        answer = await self.endpoint.answer(request.body, self._methods.call)
        return Response(204) if answer is None else Response(200, answer, JSON)

    async def _converse(self, socket: Socket) -> None:
        follower = Follower(self._sources, self._methods)

        async def tell() -> None:
            try:
                await follower.tell(socket)
            except (TooSlow, FlockError, RpcError) as error:
                await socket.close(str(error))
            except BrokenSocket:
                pass
            nursery.cancel_scope.cancel()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(tell)
            try:
                while (message := await socket.receive()) is not None:
                    answer = await self.endpoint.answer(message, follower.call)
                    if answer is not None:
                        await socket.send(answer)
                    follower.activate()
            except BrokenSocket:
                pass
            nursery.cancel_scope.cancel()
