const none = () => { throw new Error('not installed for this test') }
export const webRTC = none
export const webRTCDirect = none
export const autoTLS = none
export const uPnPNAT = none
export const http = none
export const withHTTP = (helia) => helia
